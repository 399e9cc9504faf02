"""Mongolian text: letters, words, sentences, and rules for good text."""
