"""Models of other projects: weights, configs and tokenizers, both ways."""
