"""Modules that all code uses: options and flags, random numbers, processes."""
