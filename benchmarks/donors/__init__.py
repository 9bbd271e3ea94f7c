"""Do q-values hold for new donors? Donors split at random, planted effects, and real ones."""
