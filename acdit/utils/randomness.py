"""Random draws as a function of what they are for, so that runs can be repeated and resumed exactly."""

import hashlib

import torch

Key = int | str


def seed_of(*key: Key) -> int:
    """A 63-bit seed that depends on every part of `key`, the same on every machine and in every process."""
    digest = hashlib.blake2b(repr(key).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def generator(*key: Key) -> torch.Generator:
    """A CPU generator for one purpose, for example `generator(seed, "noise", epoch, index, draw)`."""
    return torch.Generator().manual_seed(seed_of(*key))
