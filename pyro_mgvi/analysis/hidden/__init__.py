"""What a refit says of cells that it has not seen, of genes that are hidden from its encoder."""
