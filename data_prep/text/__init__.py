"""Mongolian text: its letters, words and sentences, and what is worth keeping."""
