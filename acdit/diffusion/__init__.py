"""Noise processes: objectives, schedulers, the block-by-block loop, likelihoods."""
