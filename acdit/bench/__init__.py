"""Benchmarks: the cost of the package, compared with the published computation and with the roofline."""
