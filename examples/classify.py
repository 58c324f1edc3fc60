"""Recognise pictures in two ways: with a classifier, and with a generator, by its denoising loss.

    python examples/classify.py three.png seven.png
    python examples/classify.py                         # digits that the generator draws itself

A classifier is the network of a generator with a head on its clean stream: one pass. A generator needs no
head: the class under whose label it denoises a picture best is the most likely one. All classes of a picture
share the noise and the pass over its clean blocks.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image

from acdit import ACDiTImageClassificationPipeline, ACDiTImagePipeline, load_pipeline
from acdit.diffusion.class_losses import denoising_class_losses


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the class of each picture by the classifier and by the generator."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("pictures", nargs="*", type=Path, help="light digits on black")
    parser.add_argument("--draws", type=int, default=8, help="noise draws per class")
    options = parser.parse_args(arguments)

    generator = load_pipeline("mnist", kind=ACDiTImagePipeline)
    classifier = load_pipeline("mnist-classifier", kind=ACDiTImageClassificationPipeline)
    height, width = generator.layout.size
    if options.pictures:
        names = [str(path) for path in options.pictures]
        pictures = [Image.open(path).convert("L").resize((width, height)) for path in options.pictures]
    else:
        names = ["a drawn 3", "a drawn 7"]
        seed = torch.Generator().manual_seed(0)
        pictures = generator(class_labels=[3, 7], generator=seed, num_inference_steps=8).images

    by_head = classifier(pictures, top_k=1).predictions

    pixels = generator.image_processor.preprocess(pictures)  # (N, 1, H, W) in [-1, 1]
    losses = denoising_class_losses(
        generator.transformer,
        generator.layout.to_blocks(pixels),
        generator.layout,
        prediction="flow",
        seed=0,
        indices=range(len(pictures)),
        draws=options.draws,
    )
    margins, errors = losses.margins()
    for row, name in enumerate(names):
        best, least = by_head[row][0], generator.label_names[int(losses.means[row].argmin())]
        print(f"{name}: {best['label']} by the classifier, with probability {best['score']:.2f};")
        print(f"  {least} by the generator, whose loss is less by {margins[row]:.4f} +- {errors[row]:.4f}")


if __name__ == "__main__":
    main()
