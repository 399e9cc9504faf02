"""Tokenizers: text to ids and model inputs, and the training of a tokenizer."""
