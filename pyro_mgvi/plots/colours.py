"""Colours that are told apart with any common colour vision."""

# Okabe and Ito's.
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#F0E442", "#000000")
MISSING = "#BBBBBB"
SEQUENTIAL = "viridis"
