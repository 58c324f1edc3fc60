"""Networks whose features are compared, one a file."""
