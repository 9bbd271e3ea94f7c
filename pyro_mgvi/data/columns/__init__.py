"""Columns of the cells that a model registers: covariates, and samples beside their groups."""
