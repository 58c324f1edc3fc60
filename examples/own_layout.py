"""Cut a picture into blocks of your own: columns, rows, single tokens, or the whole as one block.

    python examples/own_layout.py --label 8

A layout is a value, (grid, block, patch) in tokens, and not a property of the weights. The network in the
package was trained on square blocks of 8x8, 4x4 and 2x2 tokens; the table shows what other cuts cost, and the
picture what they do to the result.
"""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from acdit import ACDiTImagePipeline, Layout, load_pipeline
from acdit.media.images import picture_grid
from acdit.model.flops import Dimensions, sampling_flops

CUTS = {"whole": (8, 8), "quarters": (4, 4), "rows": (2, 8), "columns": (8, 2), "sixteenths": (2, 2)}


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw one digit under every layout, from the same noise, and print what each costs."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--label", default="8", help="class of the digit")
    parser.add_argument("--steps", type=int, default=10, help="solver steps per block")
    parser.add_argument("--out", type=Path, default=Path("layouts.png"))
    options = parser.parse_args(arguments)

    pipe = load_pipeline("mnist", kind=ACDiTImagePipeline)
    pipe.set_progress_bar_config(disable=True)
    pictures = []
    print(f"{'blocks':12}{'number':>8}{'calls':>8}{'cache KiB':>11}{'GFLOPs':>9}{'seconds':>9}")
    for name, block in CUTS.items():
        # Blocks are in raster order. Sizes that do not tile the grid raise an error that lists those that do.
        layout = Layout(grid=pipe.layout.grid, block=block, patch=pipe.layout.patch)
        started = time.perf_counter()
        output = pipe(
            options.label,
            block=layout.block,
            num_inference_steps=options.steps,
            generator=torch.Generator().manual_seed(0),
        )
        seconds = time.perf_counter() - started
        steps = [options.steps] * layout.num_blocks
        flops = sampling_flops(Dimensions.of(pipe.transformer.config), layout, steps, guided=True)
        print(
            f"{name:12}{layout.num_blocks:8}{output.evaluations:8}{output.cache_bytes / 1024:11.0f}"
            f"{flops / 1e9:9.1f}{seconds:9.1f}"
        )
        pictures += output.images
    picture_grid(pictures, columns=len(pictures)).save(options.out)


if __name__ == "__main__":
    main()
