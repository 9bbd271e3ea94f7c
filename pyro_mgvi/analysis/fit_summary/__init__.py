"""What a fit says when it is done: whether it converged, what it found, and what to do next."""
