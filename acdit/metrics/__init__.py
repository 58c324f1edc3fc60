"""Pure functions of features and tokens."""
