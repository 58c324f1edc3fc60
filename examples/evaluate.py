"""Score samples against real data, on features of your own beside those of the package.

    pip install 'acdit[examples]'                     # the real digits
    python examples/evaluate.py --count 500 --guidance 1 1.5 2

A score is features x metric x reference. Beside each stands the value that other real data reach at the same
counts, without which a distance says nothing. `acdit evaluate --model mnist` does the same with everything
chosen.
"""

import argparse
from collections.abc import Sequence

import torch
from torch import Tensor

from acdit import ACDiTImagePipeline, load_pipeline
from acdit.evaluation.data_samples import open_data
from acdit.evaluation.evaluate import evaluate_samples
from acdit.evaluation.features.extractor import FeatureInfo, Features
from acdit.evaluation.generated_samples import generated_images
from acdit.evaluation.samples import TensorSamples, picked
from acdit.generation.batches import Sampling


class InkProfile:
    """Extractor of the mean brightness of every row and column: 64 features of a picture of 32x32 pixels."""

    info = FeatureInfo("ink-profile", "1", None, "none", "float32", "none needed")
    classes: tuple[str, ...] = ()

    def __call__(self, samples: Tensor) -> Features:
        """Return the features (N, H + W) of grey images (N, 1, H, W)."""
        return Features(torch.cat([samples.mean(dim=(1, 3)), samples.mean(dim=(1, 2))], dim=1))


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw digits at several guidance scales and print their scores."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--count", type=int, default=500, help="number of samples of each scale")
    parser.add_argument("--guidance", type=float, nargs="+", default=[1.0, 1.5], help="guidance scales")
    parser.add_argument("--steps", type=int, default=10, help="solver steps per block")
    options = parser.parse_args(arguments)

    pipe = load_pipeline("mnist", kind=ACDiTImagePipeline)
    held_out = open_data("mnist", size=None)  # 1,000 digits that the model has not seen
    training = open_data("mnist", size=None, split="train")
    names = ["real digits", *(f"guidance {scale:g}" for scale in options.guidance)]
    real = TensorSamples(picked(training, range(options.count)), name=names[0])
    for name, scale in zip(names[1:], options.guidance, strict=True):
        labels = [index % 10 for index in range(options.count)]
        sampling = Sampling(seed=0, steps=options.steps, guidance=scale)
        with generated_images(pipe, labels, sampling) as samples:  # kept on disk; drawn when they are read
            metrics = ["frechet_distance", "precision_recall"]
            report = evaluate_samples(samples, held_out, [InkProfile(), "pixels"], metrics, real=real)
        print(f"{name}\n{report.table()}\n")


if __name__ == "__main__":
    main()
