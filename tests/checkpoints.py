"""Small published checkpoints and autoencoders for the tests of conversion."""

import argparse
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

GOLDEN = Path(__file__).parent / "golden"
IMAGE = GOLDEN / "published-img.pt"


def raw(path: Path) -> dict[str, Any]:
    """What a checkpoint holds, by torch alone."""
    with torch.serialization.safe_globals([argparse.Namespace]):
        return torch.load(path, weights_only=True)


def thousand_classes(path: Path) -> None:
    """Write the golden image checkpoint with as many classes as ImageNet has."""
    stored = raw(IMAGE)
    table = torch.randn(1001, 128, generator=torch.Generator().manual_seed(0))
    for part in ("model", "ema"):
        stored[part] = OrderedDict(stored[part] | {"y_embedder.embedding_table.weight": table})
    torch.save(stored, path)


def eightfold_autoencoder(folder: Path, **changes: Any) -> str:
    """Write an autoencoder with latent cells of 8x8 pixels; returns its folder."""
    shape: dict[str, Any] = {
        "block_out_channels": (8, 8, 8, 8),
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
        "norm_num_groups": 4,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        AutoencoderKL(**(shape | changes)).save_pretrained(folder)
    return str(folder)
