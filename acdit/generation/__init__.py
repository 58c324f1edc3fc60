"""Samples drawn with a pipeline, in batches, sets and files."""
