"""Readers of raw text: plain files, Wikipedia, e-books, known downloads."""
