"""Evaluation metrics as pure functions of features and tokens."""
