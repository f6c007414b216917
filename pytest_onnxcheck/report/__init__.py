"""Verdicts and measurements as text, JSON and tables. Pure: nothing is computed from a model."""
