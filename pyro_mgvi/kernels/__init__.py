"""Fast arithmetic: sparse products and written-out gradients, each beside its plain formula."""
