"""The web page of `acdit demo`: models of the package and of given folders, drawn from block by block."""
