"""Continue a clip for as long as you like, written to a file frame by frame, with memory that does not grow.

    python examples/continue_clip.py                         # continues a clip that the model has made itself
    python examples/continue_clip.py seven.gif --keep 4 --frames 200 --out longer.gif

A rolling cache holds the first block and the last two. `stream` yields the frames of a block
when it is finished and keeps none of them.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image, ImageSequence

from acdit import ACDiTVideoPipeline, load_pipeline
from acdit.media.videos import video_file


def main(arguments: Sequence[str] | None = None) -> None:
    """Continue a clip and write it, with its kept frames, to a file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("clip", nargs="?", type=Path, help="a .gif of 32x32 pixels; default: one is made")
    parser.add_argument("--label", default="7", help="class of the continuation")
    parser.add_argument("--keep", type=int, default=4, help="frames to keep, a multiple of 2")
    parser.add_argument("--frames", type=int, default=64, help="frames in all")
    parser.add_argument("--steps", type=int, default=25, help="solver steps per block")
    parser.add_argument("--out", type=Path, default=Path("continued.gif"), help="a .gif, or with av an .mp4")
    options = parser.parse_args(arguments)

    pipe = load_pipeline("moving-digits", kind=ACDiTVideoPipeline)
    seed = torch.Generator().manual_seed(0)
    if options.clip is None:
        clip = pipe(options.label, num_inference_steps=options.steps, generator=seed).frames[0]
    else:
        with Image.open(options.clip) as opened:
            clip = [frame.convert("L") for frame in ImageSequence.Iterator(opened)]
    kept = clip[: options.keep]
    pieces = pipe.stream(
        options.label,
        num_frames=options.frames,
        prefix=kept,
        window=2,
        sinks=1,
        context_noise=0.05,  # a little noise on the past keeps long clips from drifting
        num_inference_steps=options.steps,
        generator=seed,
    )
    with video_file(options.out, rate=8) as video:
        for frame in kept:
            video.add(frame)
        for piece in pieces:
            for frame in piece.frames[0]:
                video.add(frame)
            print(f"{piece.evaluations} calls, cache of {piece.cache_bytes / 2**20:.1f} MiB")


if __name__ == "__main__":
    main()
