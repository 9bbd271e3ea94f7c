"""Which samples can be compared, and in what."""
