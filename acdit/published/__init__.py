"""The authors' checkpoints: their format, and conversion in and out."""
