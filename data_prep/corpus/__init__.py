"""Builds a corpus of raw text: all steps in their order, copies, figures."""
