"""The tab How it works: the attention mask, the order of blocks, the cache and the cost of a layout."""

from typing import Any

import numpy as np
import torch
from PIL import Image

from ..modalities.text import TEXT
from ..model.generator_counts import generator_counts
from ..model.layout import Layout
from ..model.skip_causal_mask import clean_visibility, dense_mask, view_visibility
from ..pipelines.stored import guided_by_default
from .cards import Card
from .pictures import data_url
from .shelf import CPU
from .snippets import Machine, block_code, command_line

LARGEST_MASK = 2048  # rows; of longer sequences the first blocks are shown
MOST_ORDERED = 2**16  # tokens whose order is listed
MOST_CACHES = 512  # blocks at which the cache is listed
COLOURS = {"unseen": (244, 244, 244), "clean": (43, 108, 176), "noised": (221, 107, 32)}


def explain(card: Card, block: tuple[int, ...], machine: Machine) -> dict[str, Any]:
    """Return what the page shows about a model in blocks of a size, without loading the model.

    Args:
        card: description of a generator.
        block: tokens of a block.
        machine: where the model runs.
    """
    layout, counts = card.layout.with_block(block), generator_counts(card.network)
    guided = guided_by_default(card.index, card.network)
    steps = card.default_steps(layout)
    by_block = counts.sampling_flops(layout, [steps] * layout.num_blocks, guided=guided)
    # a text shows as many tokens at each step in both cases
    at_once = steps * layout.num_blocks if card.modality is TEXT else steps
    whole = counts.sampling_flops(layout.with_block(layout.grid), [at_once], guided=guided)
    cached = counts.cache_bytes(layout, machine.dtype.itemsize, guided=guided)
    picture, shown = mask_picture(layout)
    listed = range(0, layout.num_blocks, -(-layout.num_blocks // MOST_CACHES))
    last = max(1, layout.num_blocks - 1)
    return {
        "mask": data_url(picture),
        "unit": "block" if pixel_tokens(layout) < layout.block_tokens else "token",
        "order": block_order(layout),
        "blocks": layout.num_blocks,
        "cache": [
            {"block": index, "tokens": index * layout.block_tokens, "bytes": cached * index // last}
            for index in listed
        ],
        "flops": {"full_sequence": whole, "block_by_block": by_block, "saving": 1 - by_block / whole},
        "text": _sentences(card, layout, shown, steps, cached, by_block, whole),
        "python": _python(card, block, machine),
        "command": command_line("info", {"model": card.source, "block": block, **machine.precision}),
    }


def mask_picture(layout: Layout) -> tuple[Image.Image, int]:
    """Return the attention mask of training as a picture, and the number of blocks that it shows.

    Rows are queries and columns are keys, a pixel for each token: the clean blocks that later ones see, then
    the noised blocks. If a sequence is too long, its first blocks are shown, or a pixel for each block.
    """
    tokens = pixel_tokens(layout)
    shown = min(layout.num_blocks, LARGEST_MASK // (2 * tokens))
    views = dense_mask(view_visibility(tokens, range(shown)), CPU)
    clean = (shown - 1) * tokens
    pixels = np.full((clean + shown * tokens,) * 2, list(COLOURS).index("unseen"), dtype=np.uint8)
    pixels[clean:][views.numpy()] = list(COLOURS).index("noised")
    pixels[clean:, :clean][views[:, :clean].numpy()] = list(COLOURS).index("clean")
    if clean:
        seen = dense_mask(clean_visibility(tokens, 0, shown - 1), CPU).numpy()
        pixels[:clean, :clean][seen] = list(COLOURS).index("clean")
    picture = Image.fromarray(pixels, "P")
    picture.putpalette([value for colour in COLOURS.values() for value in colour])
    return picture, shown


def pixel_tokens(layout: Layout) -> int:
    """Return the number of rows of the mask's picture for a block: one for each token, or a single one."""
    return layout.block_tokens if 4 * layout.block_tokens <= LARGEST_MASK else 1


def block_order(layout: Layout) -> list[list[int]] | None:
    """Return the index of the block of every token, by rows; the frames of a clip follow each other.

    None for a layout of very many tokens.
    """
    if layout.num_tokens > MOST_ORDERED:
        return None
    tokens = Layout(layout.grid, layout.block)
    indices = torch.arange(layout.num_blocks)[None, :, None, None]
    order = tokens.from_blocks(indices.expand(1, -1, layout.block_tokens, 1))
    return order.reshape(-1, layout.grid[-1]).tolist()


def _sentences(
    card: Card, layout: Layout, shown: int, steps: int, cached: int, by_block: int, whole: int
) -> str:
    blocks, tokens, what = layout.num_blocks, layout.block_tokens, card.modality.name
    if blocks == 1:
        return (
            f"All {tokens:,} tokens of the {what} are one block, so this is an ordinary diffusion "
            f"transformer: every token sees every other one in each of the {steps} steps, and nothing is "
            f"cached. One {what} costs {by_block:.3g} FLOPs."
        )
    part = "" if shown == blocks else f" The picture of the mask shows the first {shown} blocks."
    before, change = (blocks - 1) * tokens, "less" if by_block < whole else "more"
    return (
        f"The {layout.num_tokens:,} tokens of the {what} are cut into {blocks} blocks of {tokens:,}, which "
        f"are generated in the order of their numbers, each in {steps} steps. In training the network sees "
        f"{before:,} clean tokens and {layout.num_tokens:,} noised ones at once: a noised block sees itself "
        f"and the clean blocks before it, and a clean block sees itself and those before it.{part} When it "
        f"generates, the keys and values of finished blocks are kept, up to {before:,} tokens in {cached:,} "
        f"bytes, so that they are not computed again. One {what} costs {by_block:.3g} FLOPs; in a single "
        f"block it would cost {whole:.3g}, so blocks cost {abs(1 - by_block / whole):.1%} {change}."
    )


def _python(card: Card, block: tuple[int, ...], machine: Machine) -> str:
    guided = guided_by_default(card.index, card.network)
    imports = "" if machine.dtype == torch.float32 else "import torch\n\n"
    return (
        f"{imports}import acdit\nfrom acdit.model.generator_counts import generator_counts\n\n"
        f"{machine.loading(card)}"
        f"layout = pipe.layout.with_block({block_code(block)})\n"
        "counts = generator_counts(pipe.transformer.config)\n"
        f"flops = counts.sampling_flops(layout, pipe.default_steps(layout), guided={guided})\n"
        f"cached = counts.cache_bytes(layout, pipe.transformer.dtype.itemsize, guided={guided})\n"
        "print(layout, flops, cached)\n"
    )
