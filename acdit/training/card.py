"""Model card of an exported pipeline: README.md with the front matter that the Hugging Face hub reads."""

from collections.abc import Sequence
from pathlib import Path

from .. import __version__
from .config import Recipe

CARD = "README.md"
WRITTEN = "<!-- `acdit train` writes this card again at the end of a run, unless this line is removed. -->"


def model_card(recipe: Recipe, *, steps: int, source: str, classes: Sequence[str], parameters: int) -> str:
    """Return the model card of a run, without a licence, which the run does not know.

    Args:
        recipe: Recipe of the run.
        steps: Number of completed steps.
        source: Name of the data set.
        classes: Names of the classes; empty if there are none.
        parameters: Number of parameters of the network.
    """
    modality = recipe.modality
    task = [f"pipeline_tag: {modality.hub_task}"] if modality.hub_task else []
    blocks, data = ", ".join(recipe.layout.blocks), " ".join(source.replace("`", "").split())
    labels = f"of {len(classes)} classes " if classes else ""
    return "\n".join(
        [
            *("---", "library_name: acdit", *task, "tags:", "- acdit", "- arxiv:2412.07720", "---"),
            f"# {recipe.name}",
            "",
            f"A model of {modality.many} (ACDiT, arXiv 2412.07720) with {parameters:,} parameters.",
            f"acdit {__version__} trained it for {steps:,} steps of {recipe.training.batch_size} samples",
            f"{labels}from `{data}`, in blocks of {blocks} tokens.",
            "",
            "```python",
            "import acdit",
            "",
            f'pipe = acdit.{modality.pipeline_name}.from_pretrained("FOLDER")',
            "```",
            "",
            "Add before the model is published: `license:` of the weights at the top, which the data may",
            "decide, what the model is for, and its scores (`acdit evaluate`).",
            "",
            WRITTEN,
            "",
        ]
    )


def write_card(text: str, folder: Path, previous: Path) -> None:
    """Write a card into a folder; one in the previous folder that the user has taken over is kept.

    Args:
        text: The card.
        folder: Folder of the new export.
        previous: Folder of the export before it, which may not exist.
    """
    old = previous / CARD
    if old.is_file():
        before = old.read_bytes()
        if WRITTEN.encode() not in before:
            (folder / CARD).write_bytes(before)
            return
    (folder / CARD).write_text(text, encoding="utf-8")
