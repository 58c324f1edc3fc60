"""The benchmarks: what the package costs beside the published computation and beside what arithmetic asks."""
