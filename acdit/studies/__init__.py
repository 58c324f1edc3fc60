"""Studies: what one choice costs and gives, as commands."""
