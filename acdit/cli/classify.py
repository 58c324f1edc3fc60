"""`acdit classify`: recognise the classes of pictures."""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal

from ..modalities.classification import CLASSIFICATION
from ..pipelines.folders import folder_modality, pipeline_folder
from ..utils.errors import UserError
from ..utils.names import printable
from ..utils.ranges import Count, CountFromZero, Ranged
from ..utils.settings import quoted_value
from .command import PlainCommand

if TYPE_CHECKING:
    from ..pipelines.classification import Prediction

TRAINING = "acdit train classify-mnist"
MOST_NAMED = 3  # unreadable files up to which the error names all
WIDEST = 20  # characters to which the names of classes are aligned


@dataclass
class ClassifyOptions(Ranged):
    """Print the most probable classes of pictures, with their probabilities.

    Pictures are resized, cropped and converted as for training. Those that cannot be read, or are
    more than 100 times as long as wide, are named, and the others are recognised.
    """

    section: ClassVar[str] = "--"

    pictures: list[str] = field(default_factory=list)
    """Pictures, and folders of pictures."""
    model: str | None = None
    """Pipeline directory or training run of a classifier, or a classifier in the package; default:
    mnist-classifier."""
    top_k: Count = 5
    """Number of classes that are printed for each picture, at most all."""
    head: CountFromZero | None = None
    """Number of the head that is used, from 0, of a model with heads at several layers; default: the last."""
    batch: Count = 64
    """Number of pictures that are recognised at once."""
    max_pixels: Count | None = None
    """Maximum number of pixels of a picture; default: 178,956,970."""
    device: str | None = None
    """Device, such as cpu or cuda; default: a GPU if there is one."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Precision of the network."""
    json: bool = False
    """Print a JSON object for each picture, one per line."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.pictures:
            raise UserError("classify needs at least one picture: acdit classify three.png")


def run(options: ClassifyOptions) -> None:
    """Recognise the pictures, and print a line for each."""
    model = _classifier(options.model)
    import torch

    from ..media.pictures import MAX_PIXELS
    from ..pipelines.classification import ACDiTImageClassificationPipeline
    from ..pipelines.loading import load_pipeline
    from ..pipelines.picture_files import classify_files, find_pictures
    from ..utils.progress_bar import ProgressBar
    from .open_model import device_of

    (files, left_out), device = find_pictures(options.pictures), device_of(options.device)
    pipeline = load_pipeline(model, getattr(torch, options.dtype), ACDiTImageClassificationPipeline)
    head = -1 if options.head is None else options.head
    pipeline.check_inputs(options.top_k, head)
    results = classify_files(
        pipeline.to(device),
        files,
        top_k=options.top_k,
        head=head,
        batch=options.batch,
        max_pixels=options.max_pixels or MAX_PIXELS,
        option="--max-pixels",
    )
    names = [pipeline.label_names.get(index) or str(index) for index in range(pipeline.num_labels)]
    longest = max(len(quoted_value(printable(name))) for name in names)
    widths = max(len(printable(str(file))) for file in files), min(WIDEST, longest)
    unreadable: dict[str, str] = {}
    with ProgressBar(total=len(files), desc="classify", unit="picture", delay=3, leave=False) as bar:
        for file, result in results:
            if isinstance(result, str):
                unreadable[printable(str(file))] = result
            elif options.json:
                bar.write(json.dumps({"picture": str(file), "predictions": result}))
            else:
                bar.write(_line(printable(str(file)), result, widths))
            bar.update()
    for path, reason in left_out.items():
        print(f"skipped {printable(path)}: it {reason}", file=sys.stderr)
    if unreadable:
        lines = [f"{file}: {reason}" for file, reason in unreadable.items()]
        named = "; ".join(lines)
        if len(lines) > MOST_NAMED:
            print("\n".join(lines), file=sys.stderr)
            named = "they are named above"
        raise UserError(f"{len(unreadable):,} of {len(files):,} pictures cannot be read: {named}")


def _classifier(model: str | None) -> str:
    """Return the folder of the model that an option names, or the name of the one in the package.

    Raises:
        UserError: if it is no classifier.
    """
    name = model or CLASSIFICATION.model
    folder = pipeline_folder(name)
    modality = folder_modality(folder)
    if modality is not CLASSIFICATION:
        raise UserError(
            f"{name} is a model of {modality.many}, which it generates: classify needs a classifier, such as "
            f"{TRAINING} trains"
        )
    return str(folder)


def _line(picture: str, predictions: "Sequence[Prediction]", widths: tuple[int, int]) -> str:
    # names with commas are quoted, since commas separate the classes
    names = [quoted_value(printable(each["label"])) for each in predictions]
    cells = [f"{name:{widths[1]}} {each['score']:.3f}" for name, each in zip(names, predictions, strict=True)]
    return f"{picture:{widths[0]}}  {', '.join(cells)}"


COMMAND = PlainCommand(
    name="classify",
    summary="recognise pictures",
    arguments="PICTURE...",
    brief="acdit classify three.png",
    example="acdit classify three.png digits/ --model runs/classify-mnist --top-k 3",
    options=ClassifyOptions,
    positional="pictures",
    run=run,
)
