"""What the published model code answers for random weights (tests/golden), to 1e-5 in float32.

The checkpoints go through `convert_checkpoint` and `from_pretrained`; and once more after a round trip.
"""

import json
from pathlib import Path

import pytest
import torch
from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler
from safetensors.torch import load_file

from acdit.diffusion.generate import Guidance, generate
from acdit.model.layout import Layout
from acdit.model.transformer import ACDiTTransformer
from acdit.pipelines.loading import load_pipeline
from acdit.published.convert import convert_checkpoint, publish
from tests.tiny import relative_error

GOLDEN = Path(__file__).parents[1] / "golden"
LAYOUTS = {"img": Layout((8, 8), (4, 4)), "vid": Layout((48, 2, 2), (12, 2, 2), (1, 2, 2))}


@pytest.fixture(scope="module", params=[(name, trip) for name in LAYOUTS for trip in (False, True)], ids=str)
def golden(request, tmp_path_factory):
    """Layout, network, scheduler and expected tensors of one checkpoint, converted or round-tripped."""
    name, round_trip = request.param
    folder = tmp_path_factory.mktemp("converted")
    source, model = GOLDEN / f"published-{name}.pt", folder / "model"
    convert_checkpoint(source, model)
    if round_trip:
        publish(model, folder / "again.pt")
        model = folder / "again"
        convert_checkpoint(folder / "again.pt", model)
    expected = load_file(GOLDEN / f"published-{name}.expected.safetensors")
    if name == "img":
        pipeline = load_pipeline(model)
        assert pipeline.layout == LAYOUTS[name]
        return pipeline.layout, pipeline.transformer, pipeline.scheduler, expected
    stored = json.loads((model / "layout.json").read_text())
    layout = Layout(*(tuple(stored[key]) for key in ("grid", "block", "patch")))
    assert layout == LAYOUTS[name]
    network = ACDiTTransformer.from_pretrained(model / "transformer")
    return layout, network, DPMSolverMultistepScheduler.from_pretrained(model / "scheduler"), expected


def test_positions(golden):
    layout, _, _, expected = golden
    assert torch.equal(layout.coordinates().flatten(0, 1).T, expected["position_ids"])


@pytest.mark.parametrize("backend", ["dense", "split"])
def test_prediction(golden, backend):
    layout, model, _, expected = golden
    model.set_attention_backend(backend)
    with torch.no_grad():
        answer = model(
            expected["noised"],
            expected["timestep"],
            layout=layout,
            clean=expected["clean"],
            labels=expected["labels"],
        ).sample
    model.set_attention_backend(None)
    assert relative_error(answer, expected["prediction"]) < 1e-5


@pytest.mark.parametrize("scale", [1.0, 1.5])
def test_samples(golden, scale):
    layout, model, scheduler, expected = golden
    with torch.no_grad():
        blocks = generate(
            model,
            layout,
            expected["sample_noise"],
            scheduler=scheduler,
            steps=8,
            labels=expected["sample_labels"],
            guidance=Guidance(scale),
        )
        samples = torch.stack([block.sample for block in blocks], 1)
    assert relative_error(samples, expected[f"sample_guidance_{scale}"]) < 1e-5
