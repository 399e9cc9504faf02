"""Answers of a trained model, and explanations of its answers."""
