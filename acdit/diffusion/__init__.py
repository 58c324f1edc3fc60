"""Noise processes: objectives, schedulers, block-by-block sampling, likelihoods."""
