"""ALBERT and BERT for Mongolian: models, training, classification."""
