"""Networks whose features are compared, one per file."""
