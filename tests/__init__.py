"""Tests. A package, so that no package `tests` of another distribution, such as torch-fidelity, hides it."""
