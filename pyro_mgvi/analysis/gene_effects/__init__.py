"""What each dimension of a latent does to the genes, and in which cells."""
