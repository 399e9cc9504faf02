"""Labelled rows: how they are read, cleaned, compared, split and frozen."""
