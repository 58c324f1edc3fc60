"""The authors' checkpoints: their format, and conversion in both directions."""
