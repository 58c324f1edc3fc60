"""The published computation over the same weights: baseline of the benchmarks, and an independent check.

No computation here is taken from `layers.py`, `attention.py` or `generate.py`, so that their optimisations
do not affect this module. Only the matrix products use the same kernels, whose speed is not compared.

The computation follows the paper (sections 4.2, 4.4 and 4.5, Fig. 2, Appendix C) and the code that its
authors published with the weights:

- Training passes one sequence of 2 L tokens, all clean blocks before all noised ones, through every layer.
  Attention uses a dense boolean mask of (2 L)^2. The last clean block and the last layer's clean outputs are
  computed too.
- adaLN's linear layer runs once per block; each of its six vectors is repeated for every token of the block.
  Modulated or gated noised tokens are joined with the clean ones by concatenation.
- In sampling, the first step of a block also gets the clean block before it, under a mask of two blocks of
  queries. The keys and values of the clean block go to each layer's cache, which grows by concatenation.
  Every step concatenates the cache with its own keys.
- With guidance the batch is doubled, caches included: the clean past is computed and kept for each branch.

Where these sources leave a choice, the faster option is taken: masks and rotary tables are made once per
layout, tensors that no backward pass needs are changed in place, and sampling runs in inference mode.
"""

import copy
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..model.layers import NORM_EPS
from ..model.layout import Layout
from ..model.linear import linear
from ..model.rope import RopeTable, Rotation, default_split
from ..model.transformer import ACDiTTransformer
from ..utils.tracing import tensor_cache

Weights = tuple[Tensor, Tensor]


class _Layer(NamedTuple):
    """Weights of one layer, by their published names (weight and bias for linear layers)."""

    norm1: Tensor
    qkv: Weights
    q_norm: Tensor
    k_norm: Tensor
    proj: Weights
    norm2: Tensor
    fc1: Weights
    fc2: Weights
    modulation: Weights


class _Sequence(NamedTuple):
    """Description of the tokens that pass through the layers."""

    clean: int  # number of clean tokens, which come first
    block_tokens: int
    rope: RopeTable  # cosines and sines (S, D)
    mask: Tensor | None  # (S, keys)
    condition: Tensor  # SiLU of the noised blocks' condition vectors, (N, T, hidden)


class Published:
    """Published computation with the parameters of a network (shared, not copied).

    Args:
        network: network with timesteps and classes, as every published network has them.

    Raises:
        ValueError: if the network has no timesteps or no classes.
    """

    def __init__(self, network: ACDiTTransformer):
        if network.t_embedder is None or network.y_embedder is None or network.config["in_channels"] is None:
            raise ValueError(
                "the network must have continuous tokens, timesteps and classes, like published networks"
            )
        self.network = network
        self.embed_time, self.embed_label = network.t_embedder, network.y_embedder
        self.heads = network.config["num_heads"]
        named = dict(network.named_parameters())

        def pair(name: str) -> Weights:
            return named[f"{name}.weight"], named[f"{name}.bias"]

        self.layers = [
            _Layer(
                named[f"{prefix}.norm1.weight"],
                pair(f"{prefix}.attn.qkv"),
                named[f"{prefix}.attn.q_norm.weight"],
                named[f"{prefix}.attn.k_norm.weight"],
                pair(f"{prefix}.attn.proj"),
                named[f"{prefix}.norm2.weight"],
                pair(f"{prefix}.mlp.fc1"),
                pair(f"{prefix}.mlp.fc2"),
                pair(f"{prefix}.adaLN_modulation.1"),
            )
            for prefix in (f"blocks.{layer}" for layer in range(network.config["num_layers"]))
        ]
        self.embedding = named["x_embedder.weight"]
        self.final_norm = named["final_layer.norm_final.weight"]
        self.final_modulation = pair("final_layer.adaLN_modulation.1")
        self.final = pair("final_layer.linear")

    def predict(
        self, noised: Tensor, timestep: Tensor, clean: Tensor, labels: Tensor, *, layout: Layout
    ) -> Tensor:
        """Predict every noised block (N, T, B, C), in one pass over the sequence of 2 T blocks.

        Args:
            noised: all noised blocks (N, T, B, C).
            timestep: timesteps (N, T), raw 0..1000.
            clean: all clean blocks (N, T, B, C).
            labels: class or null label of each sample, (N,).
            layout: layout of the blocks.
        """
        tokens = layout.num_tokens
        x = torch.cat((clean, noised), dim=1).flatten(1, 2)  # (N, S = 2 L, C)
        table = self._rope(layout)
        table = table._replace(cos=torch.cat((table.cos, table.cos)), sin=torch.cat((table.sin, table.sin)))
        condition = self._condition(timestep, labels)
        mask = training_mask(layout, x.device)
        return self._forward(x, _Sequence(tokens, layout.block_tokens, table, mask, condition))

    @torch.inference_mode()
    def generate(
        self,
        layout: Layout,
        noise: Tensor,
        *,
        scheduler: Any,
        steps: int,
        labels: Tensor,
        guidance: float = 1.0,
    ) -> tuple[Tensor, int]:
        """Generate samples (N, T, B, C), and return them with the size of the caches at the end, in bytes.

        Args:
            layout: layout of the samples.
            noise: initial noise (N, T, B, C).
            scheduler: a diffusers scheduler; it is copied, not changed.
            steps: number of solver steps per block.
            labels: classes (N,).
            guidance: scale of classifier-free guidance; 1 = none.
        """
        solver, dtype = copy.deepcopy(scheduler), self.network.dtype
        branches = 1 if guidance == 1 else 2
        if branches == 2:
            labels = torch.cat((labels, torch.full_like(labels, self.network.config["num_classes"])))
        caches = [_Cache() for _ in self.layers]
        table, size = self._rope(layout), layout.block_tokens
        finished: list[Tensor] = []
        for index in range(layout.num_blocks):
            solver.set_timesteps(steps, device=noise.device)
            sample = noise[:, index] * solver.init_noise_sigma  # (N, B, C)
            uncached = finished[-1:]  # the clean block that the caches do not hold yet
            for timestep in solver.timesteps:
                inputs = (*uncached, solver.scale_model_input(sample, timestep))
                x = torch.cat(inputs, dim=1).to(dtype).repeat(branches, 1, 1)
                begin = (index - len(uncached)) * size
                rows = slice(begin, (index + 1) * size)
                sequence = _Sequence(
                    len(uncached) * size,
                    size,
                    table._replace(cos=table.cos[rows], sin=table.sin[rows]),
                    sampling_mask(size, index, x.device) if uncached else None,
                    self._condition(timestep.expand(len(x), 1), labels),
                )
                prediction = self._forward(x, sequence, caches)[:, 0].to(noise.dtype)  # (branches N, B, C)
                if branches == 2:
                    conditional, unconditional = prediction.chunk(2)
                    prediction = unconditional + guidance * (conditional - unconditional)
                sample = solver.step(prediction, timestep, sample).prev_sample
                uncached = []
            finished.append(sample)
        return torch.stack(finished, dim=1), sum(cache.nbytes for cache in caches)

    def _forward(self, x: Tensor, sequence: _Sequence, caches: "Sequence[_Cache] | None" = None) -> Tensor:
        """Pass tokens (N, S, C) through all layers, and return the noised blocks' prediction (N, T, B, C)."""
        x = linear(x, self.embedding)  # (N, S, hidden)
        for layer, weights in enumerate(self.layers):
            x = self._layer(x, weights, sequence, None if caches is None else caches[layer])
        x = _norm(x[:, sequence.clean :], self.final_norm)
        shift, scale = _per_token(sequence, self.final_modulation, 2)
        x = linear(_modulate(x, 0, shift, scale), *self.final)
        return x.unflatten(1, (-1, sequence.block_tokens))

    def _layer(self, x: Tensor, weights: _Layer, sequence: _Sequence, cache: "_Cache | None") -> Tensor:
        """Apply one layer to tokens (N, S, hidden)."""
        clean, rope = sequence.clean, sequence.rope
        vectors = _per_token(sequence, weights.modulation, 6)  # each (N, T B, hidden)
        inner = _modulate(_norm(x, weights.norm1), clean, *vectors[:2])
        projected = linear(inner, *weights.qkv).unflatten(-1, (3, self.heads, -1))
        query, key, value = projected.permute(2, 0, 3, 1, 4)  # each (N, H, S, D)
        query = _rotate(_norm(query, weights.q_norm), rope)
        key = _rotate(_norm(key, weights.k_norm), rope)
        if cache is not None:
            key, value = cache.joined(key, value, clean)
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=sequence.mask)
        branch = linear(attended.transpose(1, 2).flatten(2), *weights.proj)
        x = _add_branch(x, clean, vectors[2], branch)
        inner = _modulate(_norm(x, weights.norm2), clean, *vectors[3:5])
        branch = linear(F.gelu(linear(inner, *weights.fc1), approximate="tanh"), *weights.fc2)
        return _add_branch(x, clean, vectors[5], branch)

    def _condition(self, timestep: Tensor, labels: Tensor) -> Tensor:
        """Compute the SiLU of timestep (N, T) and label (N,) embeddings, (N, T, hidden)."""
        return F.silu(self.embed_time(timestep, self.embedding.dtype) + self.embed_label(labels)[:, None])

    def _rope(self, layout: Layout) -> RopeTable:
        """Return the cosines and sines of every token in the sequence, (L, D)."""
        config = self.network.config
        head_dim = config["hidden_size"] // self.heads
        rotation = Rotation(
            tuple(config["axis_lengths"]),
            tuple(config["rope_split"] or default_split(head_dim, layout.axes)),
            config["rope"],
            torch.promote_types(self.network.dtype, torch.float32),
            self.network.device,
        )
        table = rotation.table(layout, range(layout.num_blocks))
        return table._replace(cos=table.cos.flatten(0, 2), sin=table.sin.flatten(0, 2))


class _Cache:
    """Keys and values (N, H, cached tokens, D) of one layer, grown by concatenation."""

    def __init__(self) -> None:
        self._cached: tuple[Tensor, Tensor] | None = None

    @property
    def nbytes(self) -> int:
        """Return the size of the keys and values in bytes."""
        return sum(tensor.nbytes for tensor in self._cached or ())

    def joined(self, key: Tensor, value: Tensor, clean: int) -> tuple[Tensor, Tensor]:
        """Cache the keys and values of the first, clean tokens; return all cached ones, then the others."""
        if clean:
            fresh = key[:, :, :clean], value[:, :, :clean]
            if self._cached is None:
                self._cached = fresh[0].contiguous(), fresh[1].contiguous()
            else:
                self._cached = (
                    torch.cat((self._cached[0], fresh[0]), 2),
                    torch.cat((self._cached[1], fresh[1]), 2),
                )
        if self._cached is None:
            return key, value
        own = key[:, :, clean:], value[:, :, clean:]
        return torch.cat((self._cached[0], own[0]), 2), torch.cat((self._cached[1], own[1]), 2)


@tensor_cache(maxsize=4)
def training_mask(layout: Layout, device: torch.device) -> Tensor:
    """Return SCAM (Fig. 2a) of c_0.., n_0..: (2 L, 2 L) boolean, true where the query (row) sees the key."""
    block = torch.arange(layout.num_tokens, device=device) // layout.block_tokens
    query, key = block[:, None], block[None]
    clean = torch.cat((key <= query, torch.zeros_like(key > query)), dim=1)
    noised = torch.cat((key < query, key == query), dim=1)
    return torch.cat((clean, noised))


@tensor_cache(maxsize=64)
def sampling_mask(block_tokens: int, index: int, device: torch.device) -> Tensor:
    """Return the mask of clean block `index` - 1 and noised block `index` over all keys so far.

    Its shape is (2 B, (index + 1) B).
    """
    mask = torch.ones(2 * block_tokens, (index + 1) * block_tokens, dtype=torch.bool, device=device)
    mask[:block_tokens, -block_tokens:] = False
    return mask


def _per_token(sequence: _Sequence, modulation: Weights, parts: int) -> list[Tensor]:
    """Return shift, scale, .. of every noised token, each (N, T B, hidden) and materialised in memory."""
    vectors = linear(sequence.condition, *modulation).chunk(parts, dim=-1)  # each (N, T, hidden)
    size = sequence.block_tokens
    return [vector[:, :, None].expand(-1, -1, size, -1).flatten(1, 2) for vector in vectors]


def _norm(x: Tensor, weight: Tensor) -> Tensor:
    return F.rms_norm(x, weight.shape, weight, NORM_EPS)


def _modulate(normed: Tensor, clean: int, shift: Tensor, scale: Tensor) -> Tensor:
    """Modulate the noised tokens and keep the first, clean ones; `normed` may be changed in place."""
    if not torch.is_grad_enabled():
        normed[:, clean:].mul_(1 + scale).add_(shift)
        return normed
    return torch.cat((normed[:, :clean], normed[:, clean:] * (1 + scale) + shift), dim=1)


def _add_branch(x: Tensor, clean: int, gate: Tensor, branch: Tensor) -> Tensor:
    """Add a branch to the tokens, gated for the noised ones; `x` and `branch` may be changed in place."""
    if not torch.is_grad_enabled():
        branch[:, clean:].mul_(gate)
        return x.add_(branch)
    return x + torch.cat((branch[:, :clean], gate * branch[:, clean:]), dim=1)


def _rotate(x: Tensor, rope: RopeTable) -> Tensor:
    """Rotate queries or keys (N, H, S, D) by their tokens' coordinates, at least in float32."""
    wide = x.to(rope.cos.dtype)
    halves = (part.chunk(2, dim=-1) for part in wide.split(rope.segments, dim=-1))
    rotated = torch.cat([half for first, second in halves for half in (-second, first)], dim=-1)
    return torch.addcmul(wide * rope.cos, rotated, rope.sin).to(x.dtype)
