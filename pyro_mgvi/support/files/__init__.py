"""Files that are written: what their names promise, and whole or not at all."""
