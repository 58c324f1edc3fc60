"""Evaluation metrics of samples: distances between sets of features, and a classifier of digits."""
