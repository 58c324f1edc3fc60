"""Generate samples with a pipeline, in batches, sets and files."""
