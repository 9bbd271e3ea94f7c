"""Every pair of parts and settings, under every operation: what works, and what is refused."""
