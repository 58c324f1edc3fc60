"""Readers of training data, and small real data sets that need no download."""
