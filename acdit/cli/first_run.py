"""`make demo`: train on real 8x8 digits from scratch, sample block by block and score; see out/demo/."""

import json
import shutil
import time
from pathlib import Path

import torch

from ..evaluation.digits import digit_sets, score_digits
from ..evaluation.sweeps import SweepRow, sweep_table
from ..generation.batches import Sampling
from ..generation.video_files import write_clips
from ..media.images import picture_grid, save_picture
from ..model.layout import dims
from ..pipelines.generators import seeded_in_order
from ..pipelines.image import ACDiTImagePipeline
from ..pipelines.loading import load_pipeline
from ..pipelines.video import ACDiTVideoPipeline
from ..training.loop import train
from ..training.recipes import load_recipe
from ..utils.files import whole

METRICS = ("frechet_distance", "coverage_density", "label_accuracy", "nearest_ratio")
OUT = Path("out/demo")


def main(out: Path = OUT, **overrides: object) -> None:
    """Run the demo from scratch.

    Args:
        out: folder of the results.
        **overrides: overrides of the recipe, see `load_recipe`.
    """
    shutil.rmtree(out, ignore_errors=True)
    started = time.monotonic()
    recipe = load_recipe("digits", out=str(out / "run"), **overrides)
    print(f"Training a small ACDiT on 8x8 digits: {recipe.training.steps} steps.", flush=True)
    pipeline = load_pipeline(train(recipe), kind=ACDiTImagePipeline)
    trained = time.monotonic()
    pipeline.set_progress_bar_config(disable=True)
    layout = pipeline.layout
    print("Generating and scoring one digit per held-out digit, without and with guidance.", flush=True)
    sets = digit_sets(pipeline)
    rows = [
        SweepRow({"guidance": guidance}, score_digits(pipeline, sets, Sampling(guidance=guidance), METRICS))
        for guidance in (1.0, recipe.sampling.guidance_scale)
    ]
    classes = sorted(pipeline.label_names)
    output = pipeline(
        classes * 8, generator=seeded_in_order(torch.Generator().manual_seed(0), len(classes) * 8)
    )
    picture = out / "samples.png"
    save_picture(picture_grid(output.images, len(classes)), picture)
    report = {
        "layout": str(layout),
        "training_seconds": round(trained - started, 1),
        "total_seconds": round(time.monotonic() - started, 1),
        "threads": torch.get_num_threads(),
        "reports": [row.report.to_json() for row in rows],
    }
    with whole(out / "report.json") as temporary_path:
        temporary_path.write_text(json.dumps(report, indent=2) + "\n")
    video, moving = load_pipeline("moving-digits", kind=ACDiTVideoPipeline), out / "moving.gif"
    video.set_progress_bar_config(disable=True)
    write_clips(video, [3, 1, 4, 7], moving, Sampling(), frames=24)
    print(
        f"\nTrained in {report['training_seconds']} s; a digit is generated as {layout.num_blocks} blocks of "
        f"{dims(layout.block)} tokens, each in {output.evaluations // layout.num_blocks} diffusion steps\n"
        f"that attend to the cached keys and values of earlier blocks.\n\n{sweep_table(rows)}\n\n"
        "frechet_distance  distance to held-out digits, on features of a classifier; training digits\n"
        f"                  reach {rows[0].report.score('frechet_distance').real:.4g}\n"
        "coverage          fraction of the held-out digits that have a sample near by (1 = all the variety)\n"
        "density           1 = samples lie as close together as real digits\n"
        "label_accuracy    fraction that the classifier recognizes as the requested digit\n"
        "nearest_ratio     1 = samples are no nearer to training digits than to unseen ones\n\n"
        f"Look at {picture}; the figures are in {out / 'report.json'}.\n"
        f"{moving} is a video by the model of moving digits in the package: 24 frames, two at a time.\n"
        f"Next: acdit sample --model {out / 'run'} --labels 3,1,4 --out digits.png"
    )


if __name__ == "__main__":
    main()
