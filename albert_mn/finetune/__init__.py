"""A fine-tuning run: steps, epochs, restarts, best weights, results."""
