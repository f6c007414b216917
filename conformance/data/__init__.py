"""Data sets of the trained reference models."""
