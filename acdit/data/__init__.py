"""Readers of training data, and the small real data sets that need no download."""
