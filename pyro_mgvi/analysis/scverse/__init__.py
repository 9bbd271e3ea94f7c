"""What users of scanpy look for: the cells of one latent, and rankings where scanpy keeps them."""
