"""`make demo`: train on real 8x8 digits from scratch, sample block by block and score; see out/demo/."""

import json
import shutil
import time
from pathlib import Path

import torch

from ..evaluation.digits import evaluate_pipeline, score_table
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
    rows = []
    for guidance in (1.0, recipe.sampling.guidance_scale):
        rows += evaluate_pipeline(pipeline, [layout.block], Sampling(guidance=guidance))
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
        "scores": rows,
    }
    with whole(out / "report.json") as temporary_path:
        temporary_path.write_text(json.dumps(report, indent=2) + "\n")
    video, moving = load_pipeline("moving-digits", kind=ACDiTVideoPipeline), out / "moving.gif"
    video.set_progress_bar_config(disable=True)
    write_clips(video, [3, 1, 4, 7], moving, Sampling(), frames=24)
    print(
        f"\nTrained in {report['training_seconds']} s; a digit is generated as {layout.num_blocks} blocks of "
        f"{dims(layout.block)} tokens, each in {output.evaluations // layout.num_blocks} diffusion steps\n"
        f"that attend to the cached keys and values of earlier blocks.\n\n{score_table(rows)}\n\n"
        "accuracy      fraction that an independent classifier recognizes as the requested digit\n"
        "coverage      fraction of the held-out digits that have a sample near by (1 = all the variety)\n"
        "frechet       distance to held-out digits; (real) is that of real training digits\n"
        "memorisation  1 = samples are no nearer to training digits than to unseen ones\n\n"
        f"Look at {picture}; the figures are in {out / 'report.json'}.\n"
        f"{moving} is a video by the model of moving digits in the package: 24 frames, two at a time.\n"
        f"Next: acdit sample --model {out / 'run'} --labels 3,1,4 --out digits.png"
    )


if __name__ == "__main__":
    main()
