"""Which cells a user means, and whether they are those that something was made of."""
