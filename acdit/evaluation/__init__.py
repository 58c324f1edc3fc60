"""Measures of samples: distances between sets of features, and a judge of digits."""
