"""What tests need in other processes and what takes long to import: their server has it before it forks them.

A fork has no thread but the one that made it, and waits for ever for any other that a library had started.
"""

import gc
import os

os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # before any library is loaded

# ruff: noqa: F401
import jsonargparse
import pytest
import sklearn.datasets
import torch.distributed.fsdp
import uvicorn

import acdit.cli.demo
import acdit.evaluation.references
import acdit.playground.server
import acdit.training.loop
from acdit.training.recipes import load_recipe

load_recipe("digits")  # reads the docstrings of all keys
gc.collect()
gc.freeze()  # a collection in a fork would copy all memory
