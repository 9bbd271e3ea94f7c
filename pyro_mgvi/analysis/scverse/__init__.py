"""What users of scanpy look for, where they look: latents, own cells of one, and rankings."""
