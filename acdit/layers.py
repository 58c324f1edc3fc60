"""The layers of ACDiT (section 4.5, Appendix B): two streams, clean and noised, through the same weights."""

import math
from functools import lru_cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .attention import Backend, Visibility, attend
from .cache import KVCache
from .rope import RopeTable

NORM_EPS = 1e-6


class Stream(NamedTuple):
    """Tokens of one kind on their way through the layers, with where they stand and whom they see."""

    x: Tensor  # (N, S, B, hidden)
    rope: RopeTable
    visibility: Visibility


class Modulation(NamedTuple):
    """adaLN-Zero's vectors, each (N, M, 1, hidden); None leaves tokens unmodulated and ungated."""

    shift1: Tensor | None = None
    scale1: Tensor | None = None
    gate1: Tensor | None = None
    shift2: Tensor | None = None
    scale2: Tensor | None = None
    gate2: Tensor | None = None


class ACDiTAttention(nn.Module):
    """Projections, QK-norm and rotation; who attends to whom is decided by the caller."""

    def __init__(self, hidden_size: int, num_heads: int):
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(hidden_size, 3 * hidden_size)
        self.q_norm = nn.RMSNorm(hidden_size // num_heads, eps=NORM_EPS)
        self.k_norm = nn.RMSNorm(hidden_size // num_heads, eps=NORM_EPS)
        self.proj = nn.Linear(hidden_size, hidden_size)

    def heads(
        self, x: Tensor, rope: RopeTable, with_query: bool = True
    ) -> tuple[Tensor | None, Tensor, Tensor]:
        """Query (or None), key and value of normed tokens (N, S, B, hidden), each (N, H, S B, D)."""
        # The rows of the query are skipped for a plain layer alone: what else may stand in its place, such
        # as one with an adapter, adds more than its weight says.
        if with_query or type(self.qkv) is not nn.Linear:
            projected = self.qkv(x)
        else:
            skip = x.shape[-1]
            projected = F.linear(x, self.qkv.weight[skip:], self.qkv.bias[skip:])
        *query, key, value = projected.unflatten(
            -1, (-1, self.num_heads, self.q_norm.normalized_shape[0])
        ).unbind(3)
        key = rope.rotate(self.k_norm(key))  # (N, S, B, H, D)
        rotated = rope.rotate(self.q_norm(query[0])) if with_query else None
        return (None if rotated is None else _by_head(rotated)), _by_head(key), _by_head(value)

    def merge(self, attended: Tensor, like: Tensor) -> Tensor:
        """(N, H, S B, D) -> projected (N, S, B, hidden)."""
        return self.proj(attended.transpose(1, 2).reshape(like.shape))


def _by_head(x: Tensor) -> Tensor:
    return x.flatten(1, 2).transpose(1, 2)  # (N, S, B, H, D) -> (N, H, S B, D)


class ACDiTMLP(nn.Module):
    def __init__(self, hidden_size: int, width: int):
        super().__init__()
        self.fc1 = nn.Linear(hidden_size, width)
        self.fc2 = nn.Linear(width, hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x), approximate="tanh"))


class ACDiTBlock(nn.Module):
    """One layer. Clean tokens pass norms and weights unmodulated and ungated, noised ones adaLN-Zero too."""

    def __init__(self, hidden_size: int, num_heads: int, mlp_width: int, conditioned: bool):
        super().__init__()
        self.norm1 = nn.RMSNorm(hidden_size, eps=NORM_EPS)
        self.attn = ACDiTAttention(hidden_size, num_heads)
        self.norm2 = nn.RMSNorm(hidden_size, eps=NORM_EPS)
        self.mlp = ACDiTMLP(hidden_size, mlp_width)
        if conditioned:
            self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(hidden_size, 6 * hidden_size))

    def forward(
        self,
        clean: Stream | None,
        views: Stream | None,
        condition: Tensor | None,
        cache: KVCache | None,
        layer: int,
        clean_output: bool,
        backend: Backend,
    ) -> tuple[Tensor | None, Tensor | None]:
        """The layer's clean tokens (as they came, where `clean_output` is false) and views."""
        x = y = None
        query = keys = None  # keys and values of all clean blocks that somebody sees, cached ones included
        if clean is not None:
            x = clean.x
            query, *fresh = self.attn.heads(self.norm1(x), clean.rope, with_query=clean_output)
            keys = fresh[0], fresh[1]
            if cache is not None:
                cache.write(layer, *keys)
        if cache is not None:
            keys = cache.read(layer, cache.num_blocks + (0 if clean is None else clean.x.shape[1]))
        if clean is not None and query is not None:
            seen = _first_blocks(keys, clean.visibility)
            x = self._residuals(clean.x, attend(query, seen, None, clean.visibility, backend), Modulation())
        if views is not None:
            modulation = Modulation()
            if condition is not None:
                modulation = Modulation(*self.adaLN_modulation(condition)[:, :, None].chunk(6, dim=-1))
            inner = _modulate(self.norm1(views.x), modulation.shift1, modulation.scale1)
            query, key, value = self.attn.heads(inner, views.rope)
            assert query is not None
            seen = _first_blocks(keys, views.visibility)
            attended = attend(query, seen, (key, value), views.visibility, backend)
            y = self._residuals(views.x, attended, modulation)
        return x, y

    def _residuals(self, x: Tensor, attended: Tensor, modulation: Modulation) -> Tensor:
        """What attention adds to the tokens, then what the MLP adds."""
        x = _gated(x, modulation.gate1, self.attn.merge(attended, x))
        inner = _modulate(self.norm2(x), modulation.shift2, modulation.scale2)
        return _gated(x, modulation.gate2, self.mlp(inner))


def _first_blocks(keys: tuple[Tensor, Tensor] | None, visibility: Visibility) -> tuple[Tensor, Tensor] | None:
    """The keys and values of just the clean blocks that the predicate counts."""
    if keys is None or visibility.clean == 0:
        return None
    stop = visibility.clean * visibility.block_tokens
    return keys[0][:, :, :stop], keys[1][:, :, :stop]


def _modulate(x: Tensor, shift: Tensor | None, scale: Tensor | None) -> Tensor:
    return x if shift is None or scale is None else x * (1 + scale) + shift


def _gated(x: Tensor, gate: Tensor | None, branch: Tensor) -> Tensor:
    return x + branch if gate is None else x + gate * branch


@lru_cache(maxsize=8)
def _frequencies(count: int, device: torch.device) -> Tensor:
    """exp(-ln(10000) i / count), exponents in float32 as published: at t = 999 another rounding shows."""
    with torch.inference_mode(False):  # the cached tensor must serve training too
        exponents = -math.log(10000) * torch.arange(count, dtype=torch.float32) / count
        return exponents.double().exp().float().to(device)


class TimestepEmbedder(nn.Module):
    """Sinusoid of width 256 (cos | sin, period to 10000) of the raw timestep, then Linear, SiLU, Linear."""

    width = 256

    def __init__(self, hidden_size: int):
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Linear(self.width, hidden_size), nn.SiLU(), nn.Linear(hidden_size, hidden_size)
        )

    def forward(self, timestep: Tensor) -> Tensor:
        weight = self.mlp.get_parameter("0.weight")
        dtype = torch.promote_types(weight.dtype, torch.float32)
        frequencies = _frequencies(self.width // 2, timestep.device)
        angles = timestep.to(dtype)[..., None] * frequencies
        return self.mlp(torch.cat((angles.cos(), angles.sin()), dim=-1).to(weight.dtype))


class LabelEmbedder(nn.Module):
    """A table of class embeddings whose last row is the null label."""

    def __init__(self, num_classes: int, hidden_size: int):
        super().__init__()
        self.embedding_table = nn.Embedding(num_classes + 1, hidden_size)

    def forward(self, labels: Tensor) -> Tensor:
        return self.embedding_table(labels)


class FinalLayer(nn.Module):
    def __init__(self, hidden_size: int, out_channels: int, conditioned: bool):
        super().__init__()
        self.norm_final = nn.RMSNorm(hidden_size, eps=NORM_EPS)
        self.linear = nn.Linear(hidden_size, out_channels)
        if conditioned:
            self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(hidden_size, 2 * hidden_size))

    def forward(self, x: Tensor, condition: Tensor | None) -> Tensor:
        shift = scale = None
        if condition is not None:
            shift, scale = self.adaLN_modulation(condition)[:, :, None].chunk(2, dim=-1)
        return self.linear(_modulate(self.norm_final(x), shift, scale))
