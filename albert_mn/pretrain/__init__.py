"""A pretraining run: inputs, initial weights, checks, steps, reports."""
