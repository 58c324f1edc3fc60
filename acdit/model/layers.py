"""Layers of ACDiT (section 4.5, Appendix B): clean and noised blocks use the same weights."""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.attention.flex_attention import BlockMask

from ..utils.tracing import tensor_cache
from .attention import Backend, attend
from .conditioning import Conditions
from .elementwise import modulated_norm, norm_and_rotate
from .kv_cache import LayerCache
from .linear import Linear, gelu_tanh
from .rope import RopeTable
from .skip_causal_mask import Visibility

NORM_EPS = 1e-6


class Streams(NamedTuple):
    """Properties of the R blocks of a call: first the clean blocks of all samples, then all their views.

    With this order each stream is contiguous in memory, and every weight is used once per layer. Views that
    see each other, as with noised context, have the place of the clean blocks here.
    """

    samples: int  # N
    clean: Visibility | None
    views: Visibility | None
    rope: RopeTable  # tables of the R blocks
    backend: Backend
    clean_mask: BlockMask | None = None  # of `clean` and `views`, for the backend `flex`
    views_mask: BlockMask | None = None

    @property
    def clean_rows(self) -> int:
        """Return the number of clean blocks among the R blocks."""
        return 0 if self.clean is None else self.samples * len(self.clean.limits)


class Modulation(NamedTuple):
    """Vectors of adaLN-Zero, each (R, 1, hidden); None leaves tokens unmodulated and ungated."""

    shift1: Tensor | None = None
    scale1: Tensor | None = None
    gate1: Tensor | None = None
    shift2: Tensor | None = None
    scale2: Tensor | None = None
    gate2: Tensor | None = None

    def scaled(self, factors: Tensor) -> "Modulation":
        """Return the modulation with both gates multiplied by factors (2, R, 1, 1)."""
        gates = (self.gate1, self.gate2)
        first, second = (
            factor if gate is None else gate * factor for gate, factor in zip(gates, factors, strict=True)
        )
        return self._replace(gate1=first, gate2=second)


class ModulatedNorm(nn.RMSNorm):
    """RMSNorm, then (1 + scale) and shift if they are given; see `modulated_norm`."""

    def forward(self, x: Tensor, scale: Tensor | None = None, shift: Tensor | None = None) -> Tensor:
        """Normalise tokens (R, B, hidden), and modulate them if scale and shift are given."""
        return modulated_norm(x, self.weight, NORM_EPS, scale, shift)


class HeadNorm(nn.Module):
    """Weight of a norm in `norm_and_rotate`.

    A call returns a copy of the weight: an offloaded weight is available only during a call of its module,
    and its memory is reused afterwards.
    """

    def __init__(self, head_dim: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(head_dim))

    def forward(self) -> Tensor:
        """Return a copy of the weight (D,)."""
        return self.weight.clone()


class ACDiTAttention(nn.Module):
    """Projections, QK-norm, rotation and attention of both streams."""

    def __init__(self, hidden_size: int, num_heads: int):
        super().__init__()
        self.num_heads = num_heads
        self.qkv = Linear(hidden_size, 3 * hidden_size)
        self.q_norm = HeadNorm(hidden_size // num_heads)
        self.k_norm = HeadNorm(hidden_size // num_heads)
        self.proj = Linear(hidden_size, hidden_size)

    def forward(
        self, x: Tensor, streams: Streams, cached: LayerCache | None, clean_output: bool
    ) -> Tensor | None:
        """Compute the attention output of normalised blocks (R, B, hidden).

        Without `clean_output`, only the views have an output. The result is None if no block has one.
        """
        count, samples = streams.clean_rows, streams.samples
        counts = count, x.shape[0] - count
        if clean_output or not count:
            parts = [tensor.split(counts) for tensor in self._heads(x, streams.rope)]
            (query, view_query), (key, view_key), (value, view_value) = parts
        else:
            query = None
            key, value = self._heads(x[:count], streams.rope.select(slice(count)), with_query=False)
            views = self._heads(x[count:], streams.rope.select(slice(count, None)))
            view_query, view_key, view_value = views
        keys = None  # keys and values of all visible clean blocks, cached ones included
        if count:
            keys = _by_head(key, samples), _by_head(value, samples)
        if cached is not None:
            if keys is not None:
                cached.write(*keys)
            keys = cached
        outputs = []
        if streams.clean is not None and query is not None:
            visible = _first_blocks(keys, streams.clean)
            mask = streams.clean_mask
            outputs.append(
                attend(
                    _by_head(query, samples), visible, None, streams.clean, streams.backend, block_mask=mask
                )
            )
        if streams.views is not None:
            visible = _first_blocks(keys, streams.views)
            own = _by_head(view_key, samples), _by_head(view_value, samples)
            mask = streams.views_mask
            outputs.append(
                attend(
                    _by_head(view_query, samples),
                    visible,
                    own,
                    streams.views,
                    streams.backend,
                    block_mask=mask,
                )
            )
        if not outputs:
            return None
        blocks = [output.transpose(1, 2).reshape(-1, *x.shape[1:]) for output in outputs]
        return self.proj(torch.cat(blocks) if len(blocks) > 1 else blocks[0])

    def _heads(self, x: Tensor, rope: RopeTable, with_query: bool = True) -> tuple[Tensor, ...]:
        """Return query (if requested), key and value (R, B, H, D) of normalised blocks (R, B, hidden)."""
        # The rows of the query are skipped only for a plain layer. A module that replaces it, such as a layer
        # with an adapter, may add terms that are not part of its weight.
        skip = 0 if with_query else x.shape[-1]
        plain = skip and type(self.qkv) is Linear
        projected = self.qkv(x, skip=skip) if plain else self.qkv(x)[..., skip:]
        projected = projected.unflatten(-1, (-1, self.num_heads, x.shape[-1] // self.num_heads))
        unrotated, value = projected.split((projected.shape[2] - 1, 1), dim=2)
        weights = (self.q_norm(), self.k_norm()) if with_query else (self.k_norm(),)
        rotated = norm_and_rotate(unrotated, torch.stack(weights), NORM_EPS, rope)  # (2 or 1, R, B, H, D)
        return *rotated.unbind(0), value.squeeze(2)


def _by_head(x: Tensor, samples: int) -> Tensor:
    """Rearrange blocks (N S, B, H, D) into (N, H, S B, D)."""
    return x.unflatten(0, (samples, -1)).flatten(1, 2).transpose(1, 2)


def _first_blocks(keys: tuple[Tensor, Tensor] | None, visibility: Visibility) -> tuple[Tensor, Tensor] | None:
    """Return the keys and values of the first `visibility.clean` clean blocks only."""
    if keys is None or visibility.clean == 0:
        return None
    stop = visibility.clean * visibility.block_tokens
    return keys[0][:, :, :stop], keys[1][:, :, :stop]


class ACDiTMLP(nn.Module):
    """MLP of two linear layers with GELU between them."""

    def __init__(self, hidden_size: int, width: int):
        super().__init__()
        self.fc1 = Linear(hidden_size, width)
        self.fc2 = Linear(width, hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the MLP to tokens (R, B, hidden)."""
        if type(self.fc1) is Linear:
            return self.fc2(self.fc1(x, gelu=True))
        return self.fc2(gelu_tanh(self.fc1(x)))  # for a module that replaces the plain layer


class ACDiTBlock(nn.Module):
    """One layer of the network.

    Clean and noised tokens pass through the same norms and weights. Noised tokens are modulated and gated by
    adaLN-Zero; clean tokens are only if they have conditions, as with noised context.
    """

    def __init__(self, hidden_size: int, num_heads: int, mlp_width: int, conditioned: bool):
        super().__init__()
        self.norm1 = ModulatedNorm(hidden_size, eps=NORM_EPS)
        self.attn = ACDiTAttention(hidden_size, num_heads)
        self.norm2 = ModulatedNorm(hidden_size, eps=NORM_EPS)
        self.mlp = ACDiTMLP(hidden_size, mlp_width)
        if conditioned:
            self.adaLN_modulation = nn.Sequential(nn.SiLU(), Linear(hidden_size, 6 * hidden_size))

    def forward(
        self,
        x: Tensor,
        conditions: Conditions | None,
        streams: Streams,
        cached: LayerCache | None,
        clean_output: bool,
        branch_scale: Tensor | None = None,
    ) -> Tensor:
        """Compute the layer's output for blocks (R, B, hidden); see `Streams`.

        The conditions are those of the last blocks; earlier ones remain unmodulated. The keys and values of
        the clean blocks are written to `cached` if it is given. Without
        `clean_output`, clean blocks yield only keys and values, and no output. The outputs of attention and
        MLP are multiplied by `branch_scale`, (2, R, 1, 1), if it is given.
        """
        modulation = Modulation()
        if conditions is not None:
            vectors = conditions.through(self, self.adaLN_modulation)  # (N M, 6 hidden)
            modulation = _modulation(vectors, x.shape[0] - vectors.shape[0])
        if branch_scale is not None:
            modulation = modulation.scaled(branch_scale)
        inner = self.norm1(x, modulation.scale1, modulation.shift1)
        branch = self.attn(inner, streams, cached, clean_output)
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
    """Return the modulation of all blocks from the vectors of the last ones, (N M, 6 hidden).

    The first `clean` blocks have no condition and remain unchanged.
    """
    parts = vectors.unflatten(-1, (6, 1, -1))  # (N M, 6, 1, hidden)
    if clean:
        unchanged = torch.zeros_like(parts[:1])
        # indices in a list would be copied to the device, which waits for all that runs there
        for gate in ("gate1", "gate2"):
            unchanged[:, Modulation._fields.index(gate)] = 1
        parts = torch.cat((unchanged.expand(clean, -1, -1, -1), parts))
    return Modulation(*parts.unbind(1))


def _gated(x: Tensor, gate: Tensor | None, branch: Tensor) -> Tensor:
    return x + branch if gate is None else torch.addcmul(x, gate, branch)


@tensor_cache(maxsize=8)
def _frequencies(count: int, device: torch.device) -> Tensor:
    """Return exp(-ln(10000) i / count).

    The exponents are float32, as published: another rounding makes a visible difference at t = 999.
    """
    exponents = -math.log(10000) * torch.arange(count, dtype=torch.float32) / count
    return exponents.double().exp().float().to(device)


class TimestepEmbedder(nn.Module):
    """Embedding of raw timesteps.

    A sinusoid of width 256 (cos | sin, period up to 10000) is followed by Linear, SiLU and Linear.
    """

    width = 256

    def __init__(self, hidden_size: int):
        super().__init__()
        self.mlp = nn.Sequential(Linear(self.width, hidden_size), nn.SiLU(), Linear(hidden_size, hidden_size))

    def forward(self, timestep: Tensor, dtype: torch.dtype) -> Tensor:
        """Compute embeddings (.., hidden) of timesteps (..) in a dtype; angles are in at least float32."""
        frequencies = _frequencies(self.width // 2, timestep.device)
        angles = timestep.to(torch.promote_types(dtype, torch.float32))[..., None] * frequencies
        return self.mlp(torch.cat((angles.cos(), angles.sin()), dim=-1).to(dtype))


class LabelEmbedder(nn.Module):
    """Table of class embeddings; the last row is the null label."""

    def __init__(self, num_classes: int, hidden_size: int):
        super().__init__()
        self.embedding_table = nn.Embedding(num_classes + 1, hidden_size)

    def forward(self, labels: Tensor) -> Tensor:
        """Return the embeddings (.., hidden) of labels (..)."""
        return self.embedding_table(labels)


class FinalLayer(nn.Module):
    """Final norm with adaLN modulation if the network is conditioned, then a linear layer."""

    def __init__(self, hidden_size: int, out_channels: int, conditioned: bool):
        super().__init__()
        self.norm_final = ModulatedNorm(hidden_size, eps=NORM_EPS)
        self.linear = Linear(hidden_size, out_channels)
        if conditioned:
            self.adaLN_modulation = nn.Sequential(nn.SiLU(), Linear(hidden_size, 2 * hidden_size))

    def forward(self, x: Tensor, conditions: Conditions | None) -> Tensor:
        """Map views (N M, B, hidden) to predictions (N M, B, C)."""
        shift = scale = None
        if conditions is not None:
            shift, scale = conditions.through(self, self.adaLN_modulation)[:, None].chunk(2, dim=-1)
        return self.linear(self.norm_final(x, scale, shift))


def initialise_as_dit(network: nn.Module) -> None:
    """Initialise as in DiT: Xavier linear layers, zero biases, zero adaLN outputs, zero final layer."""
    for name, module in network.named_modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=0.02)
        zero = "adaLN_modulation" in name or name.endswith("final_layer.linear")
        if zero and isinstance(module, nn.Linear):
            nn.init.zeros_(module.weight)
    for module in network.modules():
        if isinstance(module, TimestepEmbedder):
            for index in (0, 2):
                nn.init.normal_(module.mlp.get_parameter(f"{index}.weight"), std=0.02)
