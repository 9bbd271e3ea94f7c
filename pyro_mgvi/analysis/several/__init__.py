"""Several trainings of one model: what they agree on, and how well."""
