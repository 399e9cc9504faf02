"""Fine-tuning runs: steps, epochs, restarts, best weights, results."""
