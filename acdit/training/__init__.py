"""Training: typed recipes, the loop, schedules and checkpoints."""
