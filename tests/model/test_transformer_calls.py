"""What the network takes and gives: labels, conditions, token ids, states; saving; sizes; refusals."""

import copy
import itertools
import math
from typing import Any

import pytest
import torch

from acdit.model.layout import Layout
from acdit.model.sizes import SIZES
from acdit.model.transformer import ACDiTTransformer
from tests.reference import build, reference
from tests.tiny import TINY, relative_error, tiny_inputs, tiny_model


def test_labels_per_sample_and_per_view():
    layout = Layout((4, 4), (2, 2))
    model, given = build(layout), tiny_inputs(layout, dtype=torch.float64)

    def predict(labels):
        with torch.no_grad():
            return model(given.noised, given.timestep, layout=layout, clean=given.clean, labels=labels).sample

    per_view = torch.tensor([[0, 3, 5, 3], [4, 4, 0, 5]])
    answer = predict(per_view)
    for sample, view in itertools.product(range(2), range(4)):
        alike = predict(per_view[sample, view].expand(2))
        assert relative_error(answer[sample, view], alike[sample, view]) < 1e-12
    assert relative_error(predict(given.labels), predict(given.labels[:, None].expand(2, 4))) < 1e-12
    null = predict(None)
    assert relative_error(null, predict(torch.full((2,), TINY["num_classes"]))) < 1e-12
    assert relative_error(null, answer) > 1e-3


def test_labels_are_never_dropped_by_the_network():
    """Dropping labels is the objective's work; the network answers the same, in training mode too."""
    layout = Layout((2,), (1,))
    model, given = build(layout).train(), tiny_inputs(layout, batch=100, dtype=torch.float64)
    with torch.no_grad():
        answer = model(
            given.noised, given.timestep, layout=layout, clean=given.clean, labels=given.labels
        ).sample
        expected, _ = reference(model, *given, layout=layout)
    assert relative_error(answer, expected) < 1e-9


def test_condition_is_added():
    """A condition of one's own acts as if it stood in the label table."""
    layout = Layout((4, 4), (2, 2))
    model, given = build(layout), tiny_inputs(layout, dtype=torch.float64)
    condition = torch.randn(2, 32, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    shifted = copy.deepcopy(model)
    assert shifted.y_embedder is not None
    with torch.no_grad():
        shifted.y_embedder.embedding_table.weight[given.labels] += condition
        options = {"layout": layout, "clean": given.clean, "labels": given.labels}
        answer = model(given.noised, given.timestep, condition=condition, **options).sample
        expected = shifted(given.noised, given.timestep, **options).sample
        plain = model(given.noised, given.timestep, **options).sample
    assert relative_error(answer, expected) < 1e-9
    assert relative_error(answer, plain) > 1e-3


def test_hidden_states_lead_to_the_sample():
    layout = Layout((4, 4), (2, 2))
    model, given = build(layout), tiny_inputs(layout, dtype=torch.float64)
    options = {"layout": layout, "clean": given.clean, "labels": given.labels}
    with torch.no_grad():
        plain = model(given.noised, given.timestep, **options)
        sample, states = model(
            given.noised, given.timestep, return_hidden_states=True, return_dict=False, **options
        )
        clean_alone = model(None, layout=layout, clean=given.clean, return_hidden_states=True)
    assert plain.hidden_states is None and relative_error(sample, plain.sample) < 1e-12
    assert states.shape == (2, 8, 4, 32)
    assert clean_alone.sample is None and relative_error(clean_alone.hidden_states, states[:, :4]) < 1e-12


@pytest.mark.parametrize("time_conditioning", [False, True], ids=["no time", "time"])
def test_token_ids(time_conditioning):
    layout, vocabulary = Layout((12,), (3,)), 11
    model = build(
        layout, in_channels=None, vocab_size=vocabulary, time_conditioning=time_conditioning, num_classes=None
    )
    assert any("adaLN" in name for name in model.state_dict()) == time_conditioning
    source = torch.Generator().manual_seed(0)
    clean, noised = (torch.randint(vocabulary, (2, 4, 3), generator=source) for _ in range(2))
    timestep = tiny_inputs(layout, dtype=torch.float64).timestep if time_conditioning else None
    with torch.no_grad():
        logits = model(noised, timestep, layout=layout, clean=clean).sample
        expected, _ = reference(model, noised, timestep, clean, None, layout)
        changed = clean.clone()
        changed[:, 1] = (changed[:, 1] + 1) % vocabulary
        after = model(noised, timestep, layout=layout, clean=changed).sample
    assert logits.shape == (2, 4, 3, vocabulary) and relative_error(logits, expected) < 1e-9
    assert relative_error(after[:, :2], logits[:, :2]) < 1e-12
    assert relative_error(after[:, 2:], logits[:, 2:]) > 1e-4


def test_save_and_load(tmp_path):
    model = tiny_model(rope="published", rope_split=(6, 10), axis_lengths=(4, 6))
    model.save_pretrained(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        "config.json",
        "diffusion_pytorch_model.safetensors",
        "network.py",
    }
    loaded = ACDiTTransformer.from_pretrained(tmp_path, use_safetensors=True)
    assert isinstance(loaded, ACDiTTransformer) and not loaded.training
    expected = model.state_dict()
    assert loaded.state_dict().keys() == expected.keys()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in loaded.state_dict().items())
    layout = Layout((4, 6), (2, 3))
    given = tiny_inputs(layout)
    with torch.no_grad():
        answers = [
            network(
                given.noised, given.timestep, layout=layout, clean=given.clean, labels=given.labels
            ).sample
            for network in (model, loaded)
        ]
    assert answers[0].norm() > 0 and torch.equal(*answers)
    half = ACDiTTransformer.from_pretrained(tmp_path, use_safetensors=True, torch_dtype=torch.bfloat16)
    assert isinstance(half, ACDiTTransformer) and half.dtype == torch.bfloat16


@pytest.mark.parametrize(("size", "millions"), [("B", 130.3), ("L", 457.9), ("XL", 674.9), ("H", 951.0)])
def test_parameter_counts(size, millions):
    with torch.device("meta"):
        model = ACDiTTransformer(in_channels=4, num_classes=1000, **SIZES[size]._asdict())
    count = sum(parameter.numel() for parameter in model.parameters())
    assert round(count / 1e6, 1) == millions
    table = {"B": 132, "L": 460, "XL": 677, "H": 954}  # Table 5 counts 2048 x hidden more
    assert round((count + 2048 * model.config["hidden_size"]) / 1e6) == table[size]


def test_initialisation_is_that_of_dit():
    torch.manual_seed(0)
    config: dict[str, Any] = TINY | {"hidden_size": 64}
    model = ACDiTTransformer(**config)
    for name, parameter in model.named_parameters():
        values = parameter.detach()
        if name.endswith("bias") or "adaLN" in name or name == "final_layer.linear.weight":
            assert not values.any(), name
        elif "norm" in name:
            assert (values == 1).all(), name
        elif "t_embedder" in name or "y_embedder" in name:
            assert 0.017 < values.std() < 0.023, name
        else:  # Xavier, uniform
            bound = math.sqrt(6 / sum(values.shape))
            assert 0.95 * bound < values.abs().max() <= bound, name
            assert abs(float(values.std()) / (bound / math.sqrt(3)) - 1) < 0.1, name


def test_a_fresh_network_answers_zero():
    layout = Layout((4, 4), (2, 2))
    given = tiny_inputs(layout)
    answer = ACDiTTransformer(**TINY)(given.noised, given.timestep, layout=layout, clean=given.clean).sample
    assert answer.shape == given.noised.shape and not answer.any()


def test_attention_backend_errors():
    layout = Layout((4, 4), (2, 2))
    model, given = tiny_model(), tiny_inputs(layout)
    with pytest.raises(ValueError, match="one of dense, split, flex, not 'sdpa'"):
        model.set_attention_backend("sdpa")
    model.set_attention_backend("flex")
    with pytest.raises(ValueError, match="no backward pass on cpu"):
        model.train()(given.noised, given.timestep, layout=layout, clean=given.clean)
    model.set_attention_backend(None)
    assert model(given.noised, given.timestep, layout=layout, clean=given.clean).sample.norm() > 0


@pytest.mark.parametrize(
    ("message", "config"),
    [
        ("exactly one of in_channels .* and vocab_size", {"vocab_size": 7}),
        ("exactly one of in_channels .* and vocab_size", {"in_channels": None}),
        ("num_heads must divide hidden_size 32; 3 does not", {"num_heads": 3}),
        ("rope must be one of eq4, published, not 'rope'", {"rope": "rope"}),
        ("format version 2", {"format_version": 2}),
        ("1 to 3 values, not 4", {"axis_lengths": (2, 2, 2, 2)}),
        ("head dimension of 6 cannot be split over 2 axes", {"hidden_size": 24, "num_heads": 4}),
        ("rope_split must be 2 even widths", {"rope_split": (16,)}),
    ],
)
def test_configurations_that_cannot_be(message, config):
    with pytest.raises(ValueError, match=message):
        ACDiTTransformer(**(TINY | config))


@pytest.mark.parametrize(
    ("message", "change"),
    [
        ("layout has 1 axes, but the network has 2", {"layout": Layout((16,), (4,))}),
        (r"timestep must have one value per view, \(2, 4\), not \(2,\)", {"timestep": torch.zeros(2)}),
        (r"timestep must have one value per view, \(2, 4\), not None", {"timestep": None}),
        ("blocks must be 4 sorted indices", {"blocks": (0, 1, 2)}),
        ("blocks must be 4 sorted indices", {"blocks": (0, 2, 1, 3)}),
        (r"blocks must lie in 0\.\.3", {"blocks": (-1, 0, 1, 2)}),
        (r"blocks must lie in 0\.\.3", {"blocks": (0, 1, 2, 4)}),
        ("a view of block 3 needs 3 clean blocks before it, but has 0", {"clean": None}),
    ],
)
def test_calls_that_do_not_fit(message, change):
    layout = Layout((4, 4), (2, 2))
    given = tiny_inputs(layout)
    call = {"noised": given.noised, "timestep": given.timestep, "clean": given.clean, "layout": layout}
    with pytest.raises(ValueError, match=message):
        tiny_model()(**(call | change))
