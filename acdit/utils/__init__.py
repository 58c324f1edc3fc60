"""What every other part may use: errors, checks of input, files, randomness, ranks."""
