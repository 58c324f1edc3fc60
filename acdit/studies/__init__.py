"""Quality/cost studies, each a command that compares the settings of one choice."""
