"""Keep the first blocks of a picture, draw the rest several times, and let a classifier read the results.

    python examples/finish_picture.py                    # finishes a digit that the model has drawn itself
    python examples/finish_picture.py seven.png --keep 1

The kept blocks are given to the network as the finished past, so that their pixels stay as they are. The
class of the rest is left open: without a label, the network continues as the kept part suggests.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image

from acdit import ACDiTImageClassificationPipeline, ACDiTImagePipeline, load_pipeline
from acdit.media.images import picture_grid


def main(arguments: Sequence[str] | None = None) -> None:
    """Finish a picture and write the picture, and its continuations, side by side."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("picture", nargs="?", type=Path, help="a light digit on black; default: one is drawn")
    parser.add_argument("--keep", type=int, default=2, help="number of blocks to keep, in raster order, of 4")
    parser.add_argument("--times", type=int, default=6, help="number of continuations")
    parser.add_argument("--steps", type=int, default=25, help="solver steps per block")
    parser.add_argument("--out", type=Path, default=Path("finished.png"))
    options = parser.parse_args(arguments)

    pipe = load_pipeline("mnist", kind=ACDiTImagePipeline)
    reader = load_pipeline("mnist-classifier", kind=ACDiTImageClassificationPipeline)
    height, width = pipe.layout.size
    if options.picture is None:
        picture = pipe(
            7, generator=torch.Generator().manual_seed(0), num_inference_steps=options.steps
        ).images[0]
    else:
        picture = Image.open(options.picture).convert("L").resize((width, height))

    finished = pipe(
        class_labels=[None] * options.times,
        image=picture,
        keep_blocks=options.keep,
        block=(4, 4),  # tokens of a block: 16x16 pixels, four blocks in a picture of 32x32
        num_inference_steps=options.steps,
        generator=[torch.Generator().manual_seed(seed) for seed in range(options.times)],
    ).images
    for index, best in enumerate(reader([picture, *finished], top_k=1).predictions):
        name = f"continuation {index}" if index else "the given picture"
        print(f"{name} reads as {best[0]['label']} ({best[0]['score']:.2f})")
    picture_grid([picture, *finished], columns=options.times + 1).save(options.out)


if __name__ == "__main__":
    main()
