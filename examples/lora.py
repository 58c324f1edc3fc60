"""Adapt the network in the package to other data by low-rank adapters, then blend them in and out.

    pip install 'acdit[lora]'
    python examples/lora.py my-digits --steps 200     # a folder with the sub-folders 0 to 9

Training writes the adapters alone to OUT/lora, a small file that any pipeline with this network loads by the
methods of diffusers: `load_lora_weights`, `set_adapters`, `fuse_lora`.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch

from acdit import ACDiTImagePipeline, load_pipeline, load_recipe
from acdit.media.images import picture_grid
from acdit.training.loop import train


def main(arguments: Sequence[str] | None = None) -> None:
    """Train adapters, and draw with them at several scales."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "folder", help="folder with a sub-folder per class, named as the classes of the model"
    )
    parser.add_argument("--out", type=Path, default=Path("runs/adapted"), help="folder of the run")
    parser.add_argument("--rank", type=int, default=8, help="rank of the adapters")
    parser.add_argument("--steps", type=int, default=200, help="training steps")
    parser.add_argument("--batch", type=int, default=32, help="pictures per training step")
    parser.add_argument("--solver-steps", type=int, default=25, help="solver steps per block")
    options = parser.parse_args(arguments)

    recipe = load_recipe(
        "mnist",
        out=str(options.out),
        data={"source": options.folder, "image_size": 32, "validation_fraction": 0.1},
        lora={"rank": options.rank, "label_table": False},  # the classes keep their meaning
        training={"init_from": "mnist", "steps": options.steps, "batch_size": options.batch},
    )
    if train(recipe) is None:
        print("stopped by a signal; run the script again to resume")
        return

    pipe = load_pipeline("mnist", kind=ACDiTImagePipeline)
    pipe.load_lora_weights(options.out / "lora", adapter_name="mine")
    pictures = []
    for scale in (0.0, 0.5, 1.0):  # from the network as it was to the adapted one
        pipe.set_adapters("mine", scale)
        seed = torch.Generator().manual_seed(0)
        pictures += pipe([0, 1, 2, 3], num_inference_steps=options.solver_steps, generator=seed).images
    picture_grid(pictures, columns=4).save(options.out / "scales.png")
    print(f"adapters in {options.out / 'lora'}; a row for each scale in {options.out / 'scales.png'}")


if __name__ == "__main__":
    main()
