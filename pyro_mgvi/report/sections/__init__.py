"""Sections of the report: a module for what goes in, one for each thing that comes out."""
