"""Tokenizers: text to ids and to model inputs; the training of a tokenizer."""
