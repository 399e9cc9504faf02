"""Models of other projects: their weights, configs and tokenizers, both ways."""
