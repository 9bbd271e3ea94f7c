"""Which genes to model: those that vary within groups beyond chance, or are named."""
