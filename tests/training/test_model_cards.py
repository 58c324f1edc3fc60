"""Model cards of exported pipelines: huggingface_hub reads them, and those that a user edits are kept."""

import pytest
from huggingface_hub import ModelCard

import acdit
from acdit.modalities.table import MODALITIES
from acdit.training.card import WRITTEN, model_card
from acdit.training.loop import train
from acdit.training.recipes import load_recipe

SMALL = {
    "model": {"num_layers": 1, "hidden_size": 16, "num_heads": 1},
    "training": {"steps": 1, "batch_size": 4},
}
OF_MODALITY = {
    "image": "digits",
    "video": "moving-digits",
    "text": "laptop-text",
    "classification": "classify-digits",
}


def test_a_run_writes_a_card_and_keeps_one_that_was_edited(tmp_path):
    recipe = load_recipe("digits", out=str(tmp_path / "run"), **SMALL)
    folder = train(recipe)
    assert folder is not None
    path = folder / "README.md"
    card = ModelCard.load(path)
    data = card.data.to_dict()
    assert (data["library_name"], data["pipeline_tag"]) == ("acdit", "unconditional-image-generation")
    assert "license" not in data  # which the data decide
    pipe = acdit.ACDiTImagePipeline.from_pretrained(folder)
    count = sum(weight.numel() for weight in pipe.transformer.parameters())
    assert (
        f"{count:,} parameters" in card.text
        and "for 1 steps of 4 samples\nof 10 classes from `digits`, in blocks of 2x2 tokens" in card.text
    )

    further = load_recipe(
        "digits", out=str(tmp_path / "run"), **SMALL | {"training": {"steps": 2, "batch_size": 4}}
    )
    train(further)
    assert "for 2 steps" in path.read_text()
    edited = path.read_text().replace(WRITTEN, "").replace("---\n", "---\nlicense: mit\n", 1)
    path.write_text(edited)
    train(further)
    assert path.read_text() == edited and ModelCard.load(path).data.to_dict()["license"] == "mit"


@pytest.mark.parametrize("name", OF_MODALITY)
def test_cards_of_every_modality_are_read_by_the_hub(name):
    recipe = load_recipe(OF_MODALITY[name])
    assert recipe.modality is MODALITIES[name]
    text = model_card(recipe, steps=3, source="a `b`\n---\nlicense: mit", classes=["x"], parameters=1234)
    card = ModelCard(text)
    data = card.data.to_dict()
    assert data["pipeline_tag"] == MODALITIES[name].hub_task and "license" not in data
    assert (
        "from `a b --- license: mit`" in card.text and f"acdit.{MODALITIES[name].pipeline_name}." in card.text
    )
    assert set(MODALITIES) == set(OF_MODALITY)
