"""The network once more, slowly: one sequence of clean and noised tokens under a dense mask."""

import itertools
import math
from typing import Any

import torch
from torch import Tensor

from acdit.model.layout import Layout
from acdit.model.transformer import ACDiTTransformer
from tests.tiny import tiny_model


def build(
    layout: Layout, seed: int = 0, dtype: torch.dtype = torch.float64, **config: Any
) -> ACDiTTransformer:
    return tiny_model(seed, dtype, axis_lengths=layout.grid, **config)


def rms_norm(x: Tensor, weight: Tensor) -> Tensor:
    return x / torch.sqrt((x * x).mean(-1, keepdim=True) + 1e-6) * weight


def silu(x: Tensor) -> Tensor:
    return x / (1 + torch.exp(-x))


def gelu(x: Tensor) -> Tensor:
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def rotate(x: Tensor, places: Tensor, lengths: tuple[int, ...], split: tuple[int, ...]) -> Tensor:
    """RoPE-ND (Eq. 4) of (N, S, H, D) at integer coordinates (S, axes)."""
    parts = []
    for axis, part in enumerate(x.split(split, dim=-1)):
        width = split[axis]
        base = 100 * math.ceil(8 * lengths[axis] / (100 * math.pi))
        inverse = base ** (-2 * torch.arange(width // 2, dtype=torch.float64) / width).to(x.dtype)
        angle = (places[:, axis, None].double() * inverse)[None, :, None]
        low, high = part[..., : width // 2], part[..., width // 2 :]
        parts += [low * angle.cos() - high * angle.sin(), high * angle.cos() + low * angle.sin()]
    return torch.cat(parts, dim=-1)


def sines(places: Tensor, hidden: int) -> Tensor:
    """Fixed embeddings (S, hidden) of coordinates (S, axes): sines, then cosines, for each axis."""
    widths = {1: [hidden], 2: [hidden // 2] * 2, 3: [hidden // 4, hidden // 8 * 3, hidden // 8 * 3]}
    rows = []
    for place in places.tolist():
        row = []
        for coordinate, width in zip(place, widths[len(place)], strict=True):
            angles = [coordinate / 10000 ** (2 * index / width) for index in range(width // 2)]
            row += [math.sin(angle) for angle in angles] + [math.cos(angle) for angle in angles]
        rows.append(row)
    return torch.tensor(rows, dtype=torch.float64)


def one_stream(
    model: ACDiTTransformer,
    noised: Tensor,
    timestep: Tensor,
    labels: Tensor,
    layout: Layout,
    window: int | None = None,
    sinks: int = 0,
) -> tuple[Tensor, Tensor]:
    """Prediction (N, M, B, C) and last states of the first M blocks, which see themselves and those before.

    Every block has its own timestep (N, M): the forward pass of Diffusion Forcing.
    """
    blocks, tokens = range(noised.shape[1]), layout.block_tokens
    seen = torch.zeros(len(blocks) * tokens, len(blocks) * tokens, dtype=torch.bool)
    for query, key in itertools.product(range(len(seen)), repeat=2):
        i, j = query // tokens, key // tokens
        seen[query, key] = j <= i and (window is None or j >= i - window or j < sinks)
    nothing = noised[:, :0]
    return reference(model, noised, timestep, nothing, labels, layout, tuple(blocks), mask=seen)


def scam(kinds: list[tuple[bool, int]], tokens: int, window: int | None, sinks: int) -> Tensor:
    """Who sees whom among copies (noised?, block), written from section 4.2."""
    seen = torch.zeros(len(kinds), len(kinds), dtype=torch.bool)
    for (a, (noised, i)), (b, (other_noised, j)) in itertools.product(enumerate(kinds), repeat=2):
        near = window is None or j >= i - window or j < sinks
        if noised:
            seen[a, b] = (not other_noised and j < i and near) or a == b
        else:
            seen[a, b] = not other_noised and j <= i and near
    return seen.repeat_interleave(tokens, 0).repeat_interleave(tokens, 1)


def reference(
    model: ACDiTTransformer,
    noised: Tensor,
    timestep: Tensor | None,
    clean: Tensor,
    labels: Tensor | None,
    layout: Layout,
    blocks: tuple[int, ...] | None = None,
    window: int | None = None,
    sinks: int = 0,
    mask: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Prediction (N, M, B, C) and last states (N, T + M, B, hidden), written from the paper alone.

    A `mask` (S, S) over all clean and noised tokens takes the place of SCAM.
    """
    p, config = dict(model.named_parameters()), model.config
    hidden, heads = config["hidden_size"], config["num_heads"]
    batch, clean_blocks, tokens = clean.shape[:3]
    blocks = tuple(range(layout.num_blocks)) if blocks is None else blocks
    kinds = [(False, j) for j in range(clean_blocks)] + [(True, i) for i in blocks]
    mask = scam(kinds, tokens, window, sinks) if mask is None else mask
    places = torch.cat([layout.coordinates()[index] for _, index in kinds])  # (S, axes)
    width = hidden // heads
    split = {1: (width,), 2: (width // 2,) * 2, 3: (width // 8 * 2, width // 8 * 3, width // 8 * 3)}[
        layout.axes
    ]
    lengths = tuple(config["axis_lengths"])
    coordinates = places
    if config["positions"] != "rope_nd":
        steps = [index * tokens + token for _, index in kinds for token in range(tokens)]
        places, lengths, split = torch.tensor(steps)[:, None], (math.prod(lengths),), (width,)
        if config["positions"] != "rope_1d":
            places = torch.zeros_like(places)  # a rotation by nothing

    table = p["x_embedder.weight"]
    data = torch.cat((clean, noised), 1).flatten(1, 2)  # (N, S, C) or (N, S)
    x = table[data] if config["vocab_size"] else data @ table.T
    if config["positions"] == "absolute":
        x = x + sines(coordinates, hidden).to(x.dtype)
    is_noised = torch.tensor([noised for noised, _ in kinds]).repeat_interleave(tokens)[:, None]  # (S, 1)

    vector = torch.zeros(batch, len(blocks), hidden, dtype=x.dtype)
    if timestep is not None:
        # Exponents are rounded to float32 as in the published code; at t = 999 that would show.
        frequencies = (-math.log(10000) * torch.arange(128, dtype=torch.float32) / 128).double().exp().float()
        angles = timestep[..., None] * frequencies.to(x.dtype)
        sinusoid = torch.cat((angles.cos(), angles.sin()), -1)
        inner = silu(sinusoid @ p["t_embedder.mlp.0.weight"].T + p["t_embedder.mlp.0.bias"])
        vector = vector + inner @ p["t_embedder.mlp.2.weight"].T + p["t_embedder.mlp.2.bias"]
    if labels is not None:
        vector = vector + p["y_embedder.embedding_table.weight"][labels.view(batch, -1)]
    per_token = torch.cat((torch.zeros(batch, clean_blocks, hidden, dtype=x.dtype), vector), 1)
    per_token = silu(per_token.repeat_interleave(tokens, 1))  # (N, S, hidden)
    conditioned = "final_layer.adaLN_modulation.1.weight" in p

    def modulation(name: str, neutral: list[float]) -> list[Tensor]:
        """Shift, scale, .. of every token; clean ones and unconditioned networks get the neutral values."""
        if not conditioned:
            return [torch.full_like(x, value) for value in neutral]
        out = per_token @ p[f"{name}.weight"].T + p[f"{name}.bias"]
        parts = out.split(hidden, -1)
        return [torch.where(is_noised, part, value) for part, value in zip(parts, neutral, strict=True)]

    for layer in range(config["num_layers"]):
        here = f"blocks.{layer}"
        parts = modulation(f"{here}.adaLN_modulation.1", [0, 0, 1, 0, 0, 1])
        shift1, scale1, gate1, shift2, scale2, gate2 = parts
        h = rms_norm(x, p[f"{here}.norm1.weight"]) * (1 + scale1) + shift1
        qkv = h @ p[f"{here}.attn.qkv.weight"].T + p[f"{here}.attn.qkv.bias"]
        q, k, v = (part.reshape(batch, -1, heads, width) for part in qkv.split(hidden, -1))
        q = rotate(rms_norm(q, p[f"{here}.attn.q_norm.weight"]), places, lengths, split)
        k = rotate(rms_norm(k, p[f"{here}.attn.k_norm.weight"]), places, lengths, split)
        scores = torch.einsum("nqhd,nkhd->nhqk", q, k) / math.sqrt(width)
        weights = scores.masked_fill(~mask, -torch.inf).softmax(-1)
        attended = torch.einsum("nhqk,nkhd->nqhd", weights, v).reshape(batch, -1, hidden)
        x = x + gate1 * (attended @ p[f"{here}.attn.proj.weight"].T + p[f"{here}.attn.proj.bias"])
        h = rms_norm(x, p[f"{here}.norm2.weight"]) * (1 + scale2) + shift2
        h = gelu(h @ p[f"{here}.mlp.fc1.weight"].T + p[f"{here}.mlp.fc1.bias"])
        x = x + gate2 * (h @ p[f"{here}.mlp.fc2.weight"].T + p[f"{here}.mlp.fc2.bias"])

    shift, scale = modulation("final_layer.adaLN_modulation.1", [0, 0])
    out = rms_norm(x, p["final_layer.norm_final.weight"]) * (1 + scale) + shift
    out = out @ p["final_layer.linear.weight"].T + p["final_layer.linear.bias"]
    views = out[:, clean_blocks * tokens :].unflatten(1, (len(blocks), tokens))
    return views, x.unflatten(1, (-1, tokens))
