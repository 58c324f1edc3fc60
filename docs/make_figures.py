"""Draw the figures of docs/idea.md from the package itself: its masks, and a run of its sampling loop.

python docs/make_figures.py [FOLDER]
"""

import sys
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import matplotlib.colors
import matplotlib.patches
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from acdit.diffusion.generate import draw_noise, generate
from acdit.diffusion.schedulers import default_sampler
from acdit.model.layout import Layout
from acdit.model.skip_causal_mask import clean_visibility, dense_mask, view_visibility
from acdit.model.transformer import ACDiTTransformer

FOLDER = Path(__file__).with_name("figures")
# text as text and nothing that changes from run to run: the files are compared by the tests
STYLE: Any = {"svg.fonttype": "none", "svg.hashsalt": "acdit", "font.family": "sans-serif", "font.size": 9}
CLEAN, NOISED, WRITTEN = "#9ecae9", "#f5a35c", "#3572b0"
PICTURE = Layout((4, 4), (2, 2))  # 4 blocks of 4 tokens


def mask_figure() -> Figure:
    """Draw which keys every query of a training step sees."""
    size, blocks = PICTURE.block_tokens, PICTURE.num_blocks
    clean = dense_mask(clean_visibility(size, 0, blocks - 1), torch.device("cpu")).numpy()
    views = dense_mask(view_visibility(size, range(blocks)), torch.device("cpu")).numpy()
    keys = views.shape[1]
    cells = np.zeros((len(clean) + len(views), keys))
    cells[: len(clean), : clean.shape[1]] = clean
    cells[len(clean) :] = views
    cells[:, clean.shape[1] :] *= 2  # of noised keys
    figure, axes = _new((5.6, 5.6))
    axes.imshow(cells, cmap=matplotlib.colors.ListedColormap(["white", CLEAN, NOISED]), vmin=0, vmax=2)
    names = [
        *(f"clean {index}" for index in range(blocks - 1)),
        *(f"noised {index}" for index in range(blocks)),
    ]
    centres = [size * place + (size - 1) / 2 for place in range(len(names))]
    axes.set_xticks(centres, names, rotation=45, ha="left", rotation_mode="anchor")
    axes.set_yticks(centres, names)
    axes.xaxis.tick_top()
    for place in range(len(names) + 1):
        wide = 1.6 if place in (0, blocks - 1, len(names)) else 0.5
        axes.axhline(size * place - 0.5, color="#555555", linewidth=wide)
        axes.axvline(size * place - 0.5, color="#555555", linewidth=wide)
    axes.tick_params(length=0)
    axes.set_xlabel("keys")
    axes.set_ylabel("queries")
    return figure


def streams_figure() -> Figure:
    """Draw the clean and the noised blocks of a training step, and what each noised block reads."""
    blocks = PICTURE.num_blocks
    visible = view_visibility(PICTURE.block_tokens, range(blocks))
    figure, axes = _new((6.4, 3.0))
    for block in range(blocks):
        _box(axes, block, 0, NOISED, f"noised {block}")
        axes.text(block, -0.62, f"prediction {block}", ha="center", va="center")
        axes.annotate("", (block, -0.5), (block, -0.25), arrowprops={"arrowstyle": "->", "color": "#555555"})
        if block < blocks - 1:
            _box(axes, block, 1.4, CLEAN, f"clean {block}")
        for earlier in range(visible.clean):
            if visible.sees(visible.limits[block], earlier):
                arrow = {"arrowstyle": "->", "color": WRITTEN, "shrinkA": 0, "shrinkB": 0}
                axes.annotate("", (block - 0.1 * (block - earlier), 0.26), (earlier, 1.14), arrowprops=arrow)
    for query in range(1, blocks - 1):
        for key in range(query):
            bend = {"arrowstyle": "->", "color": WRITTEN, "connectionstyle": "arc3,rad=-0.35"}
            axes.annotate("", (query - 0.1 * (query - key), 1.66), (key + 0.1, 1.66), arrowprops=bend)
    axes.set_xlim(-0.6, blocks - 0.4)
    axes.set_ylim(-0.8, 2.1)
    axes.axis("off")
    return figure


class Call(NamedTuple):
    """One call of the network: blocks that are denoised, written to the cache, and read from it."""

    denoised: tuple[int, ...]
    written: tuple[int, ...]
    cached: tuple[int, ...]


def recorded_calls(window: int | None, sinks: int) -> list[Call]:
    """Sample a clip of 6 blocks in 4 steps each, and return the calls of the network in order."""
    torch.manual_seed(0)
    layout = Layout((12, 2, 2), (2, 2, 2))
    model = ACDiTTransformer(
        in_channels=1,
        axis_lengths=(12, 2, 2),
        num_layers=1,
        hidden_size=16,
        num_heads=1,
        rope_split=(4, 6, 6),
    )
    calls: list[Call] = []

    def record(_: torch.nn.Module, __: Any, options: dict[str, Any], ___: Any) -> None:
        cache, clean = options["cache"], options.get("clean")
        count = 0 if clean is None else clean.shape[1]
        first = cache.num_blocks - count
        read = [
            index for index in range(first) if index < cache.sinks or index >= cache.num_evicted + cache.sinks
        ]
        views = options.get("blocks") or ()
        calls.append(Call(tuple(sorted(set(views))), tuple(range(first, first + count)), tuple(read)))

    hook = model.register_forward_hook(record, with_kwargs=True)
    options: dict[str, Any] = {} if window is None else {"window": window, "sinks": sinks}
    for _ in generate(
        model, layout, draw_noise([0], layout, 1), scheduler=default_sampler("epsilon"), steps=4, **options
    ):
        pass
    hook.remove()
    return calls


def cache_figure() -> Figure:
    """Draw over the calls of the network which blocks are denoised, written and kept."""
    figure = Figure((7.2, 4.4), layout="constrained")
    panels = figure.subplots(2, 1, sharex=True)
    settings = (
        (None, 0, "all finished blocks are kept"),
        (2, 1, "rolling: the first block and the last two"),
    )
    for axes, (window, sinks, title) in zip(panels, settings, strict=True):
        calls = recorded_calls(window, sinks)
        for place, call in enumerate(calls):
            for blocks, colour in ((call.cached, CLEAN), (call.written, WRITTEN), (call.denoised, NOISED)):
                for block in blocks:
                    axes.bar(place, 0.8, 0.9, block - 0.4, color=colour)
        axes.set_title(title, fontsize=9, loc="left")
        axes.set_yticks(range(6))
        axes.set_ylabel("block")
        axes.invert_yaxis()
    panels[-1].set_xlabel("call of the network")
    names = (("denoised", NOISED), ("written to the cache", WRITTEN), ("read from the cache", CLEAN))
    figure.legend(
        [matplotlib.patches.Patch(color=colour) for _, colour in names],
        [name for name, _ in names],
        loc="outside upper right",
        ncols=3,
        frameon=False,
    )
    return figure


def _new(size: tuple[float, float]) -> tuple[Figure, Axes]:
    figure = Figure(size, layout="constrained")
    return figure, figure.add_subplot()


def _box(axes: Axes, x: float, y: float, colour: str, name: str) -> None:
    axes.add_patch(matplotlib.patches.Rectangle((x - 0.36, y - 0.25), 0.72, 0.5, color=colour))
    axes.text(x, y, name, ha="center", va="center")


FIGURES = {"attention-mask": mask_figure, "two-streams": streams_figure, "cache": cache_figure}


def draw(folder: Path) -> None:
    """Write all figures as SVG."""
    folder.mkdir(parents=True, exist_ok=True)
    with matplotlib.rc_context(STYLE):
        for name, make in FIGURES.items():
            make().savefig(folder / f"{name}.svg", metadata={"Date": None, "Creator": None})


if __name__ == "__main__":
    draw(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)
