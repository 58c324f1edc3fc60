"""Random draws as a function of their purpose, so that runs can be repeated and resumed exactly."""

import hashlib

import torch

Key = int | str


def seed_of(*key: Key) -> int:
    """Return a 63-bit seed that depends on every part of `key`, equal on all machines and processes."""
    digest = hashlib.blake2b(repr(key).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def generator(*key: Key) -> torch.Generator:
    """Return a CPU generator for one purpose, such as `generator(seed, "noise", epoch, index, draw)`."""
    return torch.Generator().manual_seed(seed_of(*key))
