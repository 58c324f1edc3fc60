"""Utilities for all other modules: errors, checks of input, files, randomness, ranks."""
