"""Command line: parsing of arguments, and the commands."""
