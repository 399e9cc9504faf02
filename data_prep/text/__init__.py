"""Mongolian text: its letters, words, sentences, and what is worth keeping."""
