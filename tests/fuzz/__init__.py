"""Malformed and unusual calls: each is answered as the canonical one, or refused by name."""
