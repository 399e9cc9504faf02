"""Exports of a model for use elsewhere, with its model card, and their checks."""
