"""Exports of a model for use elsewhere, their checks, and the model card."""
