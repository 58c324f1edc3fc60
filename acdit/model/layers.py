"""The layers of ACDiT (section 4.5, Appendix B): clean and noised blocks through the same weights."""

import math
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor, nn

from .attention import Backend, attend
from .conditioning import Conditions
from .elementwise import modulated_norm, norm_and_rotate
from .kv_cache import KVCache
from .linear import Linear, gelu_tanh
from .rope import RopeTable
from .skip_causal_mask import Visibility

NORM_EPS = 1e-6


class Streams(NamedTuple):
    """What layers must know of their R blocks: first all samples' clean ones, then all samples' views.

    So each stream is one piece of memory, and every weight is used once a layer.
    """

    samples: int  # N
    clean: Visibility | None
    views: Visibility | None
    rope: RopeTable  # of the R blocks
    cache: KVCache | None
    backend: Backend

    @property
    def clean_rows(self) -> int:
        """How many of the R blocks are clean."""
        return 0 if self.clean is None else self.samples * len(self.clean.limits)


class Modulation(NamedTuple):
    """adaLN-Zero's vectors, each (R, 1, hidden); None leaves tokens unmodulated and ungated."""

    shift1: Tensor | None = None
    scale1: Tensor | None = None
    gate1: Tensor | None = None
    shift2: Tensor | None = None
    scale2: Tensor | None = None
    gate2: Tensor | None = None


class ModulatedNorm(nn.RMSNorm):
    """RMSNorm, then (1 + scale) and shift where they are given, see `modulated_norm`."""

    def forward(self, x: Tensor, scale: Tensor | None = None, shift: Tensor | None = None) -> Tensor:
        return modulated_norm(x, self.weight, NORM_EPS, scale, shift)


class HeadNorm(nn.Module):
    """Holds the weight that `norm_and_rotate` takes, and gives it: offloaded, it is there in a call alone."""

    def __init__(self, head_dim: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(head_dim))

    def forward(self) -> Tensor:
        return self.weight


class ACDiTAttention(nn.Module):
    """Projections, QK-norm and rotation, and the attention of both streams."""

    def __init__(self, hidden_size: int, num_heads: int):
        super().__init__()
        self.num_heads = num_heads
        self.qkv = Linear(hidden_size, 3 * hidden_size)
        self.q_norm = HeadNorm(hidden_size // num_heads)
        self.k_norm = HeadNorm(hidden_size // num_heads)
        self.proj = Linear(hidden_size, hidden_size)

    def forward(self, x: Tensor, streams: Streams, layer: int, clean_output: bool) -> Tensor | None:
        """What normed blocks (R, B, hidden) take from others; without `clean_output` the views alone do."""
        count, samples = streams.clean_rows, streams.samples
        counts = count, len(x) - count
        if clean_output or not count:
            parts = [tensor.split(counts) for tensor in self._heads(x, streams.rope)]
            (query, view_query), (key, view_key), (value, view_value) = parts
        else:
            query = None
            key, value = self._heads(x[:count], streams.rope.select(slice(count)), with_query=False)
            views = self._heads(x[count:], streams.rope.select(slice(count, None)))
            view_query, view_key, view_value = views
        keys = None  # keys and values of all clean blocks that somebody sees, cached ones included
        if count:
            keys = _by_head(key, samples), _by_head(value, samples)
        if streams.cache is not None:
            if keys is not None:
                streams.cache.write(layer, *keys)
            keys = streams.cache.read(layer, count // samples)
        answers = []
        if streams.clean is not None and query is not None:
            seen = _first_blocks(keys, streams.clean)
            answers.append(attend(_by_head(query, samples), seen, None, streams.clean, streams.backend))
        if streams.views is not None:
            seen = _first_blocks(keys, streams.views)
            own = _by_head(view_key, samples), _by_head(view_value, samples)
            answers.append(attend(_by_head(view_query, samples), seen, own, streams.views, streams.backend))
        if not answers:
            return None
        blocks = [answer.transpose(1, 2).reshape(-1, *x.shape[1:]) for answer in answers]
        return self.proj(torch.cat(blocks) if len(blocks) > 1 else blocks[0])

    def _heads(self, x: Tensor, rope: RopeTable, with_query: bool = True) -> tuple[Tensor, ...]:
        """Query (on request), key and value of normed blocks (R, B, hidden), each (R, B, H, D)."""
        # The rows of the query are skipped for a plain layer alone: what else may stand in its place, such
        # as one with an adapter, adds more than its weight says.
        skip = 0 if with_query else x.shape[-1]
        plain = skip and type(self.qkv) is Linear
        projected = self.qkv(x, skip=skip) if plain else self.qkv(x)[..., skip:]
        projected = projected.unflatten(-1, (-1, self.num_heads, x.shape[-1] // self.num_heads))
        turning, value = projected.split((projected.shape[2] - 1, 1), dim=2)
        weights = (self.q_norm(), self.k_norm()) if with_query else (self.k_norm(),)
        rotated = norm_and_rotate(turning, torch.stack(weights), NORM_EPS, rope)  # (2 or 1, R, B, H, D)
        return *rotated.unbind(0), value.squeeze(2)


def _by_head(x: Tensor, samples: int) -> Tensor:
    """(N S, B, H, D) -> (N, H, S B, D)."""
    return x.unflatten(0, (samples, -1)).flatten(1, 2).transpose(1, 2)


def _first_blocks(keys: tuple[Tensor, Tensor] | None, visibility: Visibility) -> tuple[Tensor, Tensor] | None:
    """The keys and values of just the clean blocks that the predicate counts."""
    if keys is None or visibility.clean == 0:
        return None
    stop = visibility.clean * visibility.block_tokens
    return keys[0][:, :, :stop], keys[1][:, :, :stop]


class ACDiTMLP(nn.Module):
    def __init__(self, hidden_size: int, width: int):
        super().__init__()
        self.fc1 = Linear(hidden_size, width)
        self.fc2 = Linear(width, hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        if type(self.fc1) is Linear:
            return self.fc2(self.fc1(x, gelu=True))
        return self.fc2(gelu_tanh(self.fc1(x)))  # of what else may stand in its place


class ACDiTBlock(nn.Module):
    """One layer. Clean tokens pass norms and weights unmodulated and ungated, noised ones adaLN-Zero too."""

    def __init__(self, hidden_size: int, num_heads: int, mlp_width: int, conditioned: bool):
        super().__init__()
        self.norm1 = ModulatedNorm(hidden_size, eps=NORM_EPS)
        self.attn = ACDiTAttention(hidden_size, num_heads)
        self.norm2 = ModulatedNorm(hidden_size, eps=NORM_EPS)
        self.mlp = ACDiTMLP(hidden_size, mlp_width)
        if conditioned:
            self.adaLN_modulation = nn.Sequential(nn.SiLU(), Linear(hidden_size, 6 * hidden_size))

    def forward(
        self, x: Tensor, conditions: Conditions | None, streams: Streams, layer: int, clean_output: bool
    ) -> Tensor:
        """The layer's blocks (R, B, hidden); see `Streams`.

        Without `clean_output` the clean ones leave nothing but their keys and values.
        """
        modulation = Modulation()
        if conditions is not None:
            vectors = conditions.through(layer, self.adaLN_modulation)  # (N M, 6 hidden)
            modulation = _modulation(vectors, streams.clean_rows)
        inner = self.norm1(x, modulation.scale1, modulation.shift1)
        branch = self.attn(inner, streams, layer, clean_output)
        if not clean_output:
            skip = streams.clean_rows
            x = x[skip:]
            modulation = Modulation(*(None if vector is None else vector[skip:] for vector in modulation))
        if branch is None:
            return x
        x = _gated(x, modulation.gate1, branch)
        inner = self.norm2(x, modulation.scale2, modulation.shift2)
        return _gated(x, modulation.gate2, self.mlp(inner))


def _modulation(vectors: Tensor, clean: int) -> Modulation:
    """Of so many clean blocks, which are to stay as they are, and of the views: (N M, 6 hidden)."""
    parts = vectors.unflatten(-1, (6, 1, -1))  # (N M, 6, 1, hidden)
    if clean:
        unchanged = torch.zeros_like(parts[:1])
        unchanged[:, [Modulation._fields.index("gate1"), Modulation._fields.index("gate2")]] = 1
        parts = torch.cat((unchanged.expand(clean, -1, -1, -1), parts))
    return Modulation(*parts.unbind(1))


def _gated(x: Tensor, gate: Tensor | None, branch: Tensor) -> Tensor:
    return x + branch if gate is None else torch.addcmul(x, gate, branch)


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
        self.mlp = nn.Sequential(Linear(self.width, hidden_size), nn.SiLU(), Linear(hidden_size, hidden_size))

    def forward(self, timestep: Tensor, dtype: torch.dtype) -> Tensor:
        """Embeddings (.., hidden) of timesteps (..), computed in a dtype; angles in float32 at least."""
        frequencies = _frequencies(self.width // 2, timestep.device)
        angles = timestep.to(torch.promote_types(dtype, torch.float32))[..., None] * frequencies
        return self.mlp(torch.cat((angles.cos(), angles.sin()), dim=-1).to(dtype))


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
        self.norm_final = ModulatedNorm(hidden_size, eps=NORM_EPS)
        self.linear = Linear(hidden_size, out_channels)
        if conditioned:
            self.adaLN_modulation = nn.Sequential(nn.SiLU(), Linear(hidden_size, 2 * hidden_size))

    def forward(self, x: Tensor, conditions: Conditions | None) -> Tensor:
        """Views (N M, B, hidden) to predictions (N M, B, C)."""
        shift = scale = None
        if conditions is not None:
            shift, scale = conditions.through("output", self.adaLN_modulation)[:, None].chunk(2, dim=-1)
        return self.linear(self.norm_final(x, scale, shift))
