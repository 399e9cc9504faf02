"""Builds a corpus: cleans documents, drops copies, writes files and reports."""
