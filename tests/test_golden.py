"""What the published model code answers for random weights (tests/golden), to 1e-5 in float32."""

import argparse
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from acdit.diffusion import default_sampler
from acdit.layout import Layout
from acdit.sampling import Guidance, generate
from acdit.transformer import ACDiTTransformer
from tests.tiny import relative_error

GOLDEN = Path(__file__).parent / "golden"
LAYOUTS = {"img": Layout((8, 8), (4, 4)), "vid": Layout((48, 2, 2), (12, 2, 2))}


@pytest.fixture(scope="module", params=LAYOUTS)
def golden(request):
    """Layout, network and expected tensors of one checkpoint."""
    with torch.serialization.safe_globals([argparse.Namespace]):
        stored = torch.load(GOLDEN / f"published-{request.param}.pt", weights_only=True)
    weights, layout = stored["model"], LAYOUTS[request.param]
    hidden, channels = weights["x_embedder.weight"].shape
    model = ACDiTTransformer(
        in_channels=channels,
        axis_lengths=layout.grid,
        num_layers=2,
        hidden_size=hidden,
        num_heads=hidden // weights["blocks.0.attn.q_norm.weight"].numel(),
        num_classes=len(weights["y_embedder.embedding_table.weight"]) - 1,
        rope="published",
    )
    model.load_state_dict(weights)
    return layout, model.eval(), load_file(GOLDEN / f"published-{request.param}.expected.safetensors")


def test_positions(golden):
    layout, _, expected = golden
    assert torch.equal(layout.coordinates().flatten(0, 1).T, expected["position_ids"])


@pytest.mark.parametrize("backend", ["dense", "split"])
def test_prediction(golden, backend):
    layout, model, expected = golden
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
    layout, model, expected = golden
    with torch.no_grad():
        blocks = generate(
            model,
            layout,
            expected["sample_noise"],
            scheduler=default_sampler("epsilon"),
            steps=8,
            labels=expected["sample_labels"],
            guidance=Guidance(scale),
        )
        samples = torch.stack([block.sample for block in blocks], 1)
    assert relative_error(samples, expected[f"sample_guidance_{scale}"]) < 1e-5
