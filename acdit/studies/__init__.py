"""Studies, each a command: comparisons of settings, and checks of scores and of their intervals."""
