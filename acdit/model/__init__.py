"""The network: layout, mask, attention, cache, and one forward for training and sampling."""
