"""Tiny networks and inputs. A fresh network answers exactly zero, so here every parameter is random."""

import math
from typing import Any, NamedTuple, TypeVar

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from torch import Tensor, nn

from acdit.model.layout import Layout
from acdit.model.transformer import ACDiTTransformer

T = TypeVar("T")

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-9}

TINY: dict[str, Any] = {
    "in_channels": 3,
    "axis_lengths": (6, 6),
    "num_layers": 2,
    "hidden_size": 32,
    "num_heads": 2,
    "num_classes": 5,
}


class Inputs(NamedTuple):
    """A batch as the network takes it."""

    noised: Tensor  # (N, T, B, C)
    timestep: Tensor  # (N, T)
    clean: Tensor  # (N, T, B, C)
    labels: Tensor  # (N,)


def tiny_model(seed: int = 0, dtype: torch.dtype = torch.float32, **config: Any) -> ACDiTTransformer:
    """A network of 2 layers in evaluation mode whose parameters are all random; `config` overrides `TINY`."""
    model = ACDiTTransformer(**(TINY | config))
    randomise(model, seed)
    nn.Module.to(model.eval(), dtype)  # diffusers' own `to` warns of casts
    return model


def randomise(model: nn.Module, seed: int = 0) -> None:
    """Give every parameter random values of a size that keeps activations near one."""
    source = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            drawn = torch.randn(parameter.shape, generator=source, dtype=torch.float64)
            if "embedding_table" in name:
                values = drawn
            elif parameter.ndim == 2:
                values = drawn / math.sqrt(parameter.shape[1])
            elif "norm" in name:
                values = 1 + 0.3 * drawn
            else:
                values = 0.3 * drawn
            parameter.copy_(values)


def tiny_inputs(
    layout: Layout, batch: int = 2, seed: int = 0, dtype: torch.dtype = torch.float32, channels: int = 3
) -> Inputs:
    """Random noised and clean blocks, timesteps and labels; the labels differ along the batch."""
    source = torch.Generator().manual_seed(seed)
    shape = (batch, layout.num_blocks, layout.block_tokens, channels)
    noised, clean = (torch.randn(shape, generator=source, dtype=torch.float64).to(dtype) for _ in range(2))
    timestep = torch.randint(1000, shape[:2], generator=source).to(dtype)
    return Inputs(noised, timestep, clean, torch.arange(1, batch + 1) % TINY["num_classes"])


def given(value: T | None) -> T:
    """The value, which must not be None."""
    assert value is not None
    return value


def relative_error(a: Tensor, b: Tensor) -> float:
    """||a - b|| / ||b||, for a `b` that is not zero and an `a` of the same shape."""
    assert a.shape == b.shape, f"{tuple(a.shape)} is not {tuple(b.shape)}"
    size = float(b.double().norm())
    assert size > 0, "what is compared with must not be zero"
    return float((a.double() - b.double()).norm()) / size


def grey_autoencoder(**config: Any) -> AutoencoderKL:
    """An autoencoder of grey images with latent cells of 2x2 pixels and three channels."""
    torch.manual_seed(0)
    sizes: dict[str, Any] = {
        "in_channels": 1,
        "out_channels": 1,
        "latent_channels": 3,
        "down_block_types": ("DownEncoderBlock2D",) * 2,
        "up_block_types": ("UpDecoderBlock2D",) * 2,
        "block_out_channels": (8, 8),
        "norm_num_groups": 4,
    }
    return AutoencoderKL(**(sizes | config))
