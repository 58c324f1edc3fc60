"""Train on a folder of pictures with one sub-folder per class, and draw from the result.

    python examples/train_on_pictures.py my-pictures --steps 5000

`acdit train my-pictures` does the same; from Python, a recipe is a value whose keys can be changed by name,
and the result is a diffusers pipeline. Running the script again resumes an interrupted run, and costs nothing
if it had finished.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from acdit import ACDiTImagePipeline, load_pipeline, load_recipe
from acdit.media.images import picture_grid
from acdit.training.loop import train


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, draw four pictures of each class, and write them as one picture."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path, help="folder with one sub-folder of pictures per class")
    parser.add_argument("--out", type=Path, default=Path("runs/pictures"), help="folder of the run")
    parser.add_argument("--size", type=int, default=64, help="side of the pictures in pixels")
    parser.add_argument("--steps", type=int, default=5000, help="training steps")
    parser.add_argument("--batch", type=int, default=32, help="pictures per training step")
    parser.add_argument("--layers", type=int, default=4, help="layers of the network")
    parser.add_argument("--hidden", type=int, default=192, help="width of the network")
    options = parser.parse_args(arguments)

    # The recipe `pictures` with the folder as its data. `acdit train pictures --print_config` lists all keys.
    recipe = load_recipe(
        options.folder,
        out=str(options.out),
        data={"image_size": options.size},
        layout={"patch": 4, "blocks": ["x".join([str(options.size // 8)] * 2)]},  # four blocks, such as 8x8
        model={
            "num_layers": options.layers,
            "hidden_size": options.hidden,
            "num_heads": options.hidden // 32,
        },
        training={"steps": options.steps, "batch_size": options.batch},
    )
    folder = train(recipe)
    if folder is None:
        print("stopped by a signal; run the script again to resume")
        return

    pipe = load_pipeline(folder, kind=ACDiTImagePipeline)
    output = pipe(class_labels=list(pipe.label_names.values()), num_images_per_prompt=4)
    picture_grid(output.images, columns=4).save(options.out / "drawn.png")
    print(f"a row for each of {', '.join(pipe.label_names.values())}: {options.out / 'drawn.png'}")


if __name__ == "__main__":
    main()
