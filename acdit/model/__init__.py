"""The network: layout, mask, attention, cache, and one forward pass for training and sampling."""
