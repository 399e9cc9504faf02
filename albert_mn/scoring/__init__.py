"""Scores of a model on held-out rows, and the reports that show them."""
