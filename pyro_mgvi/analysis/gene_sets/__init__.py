"""Which gene sets the genes of a dimension, or of a ranking, belong to."""
