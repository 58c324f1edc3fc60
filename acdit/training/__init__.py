"""Training: typed recipes, the training loop, schedules and checkpoints."""
