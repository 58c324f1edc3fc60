"""The network against an independent reference: its answers, gradients, who sees whom, and what it costs."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from acdit.model.layout import Layout
from acdit.model.transformer import ACDiTTransformer
from tests.reference import build, reference, scam
from tests.tiny import TOLERANCE, relative_error, tiny_inputs

# Layouts and views: square and not, 1 to 3 axes, subsets, repeats, windows.
CASES: dict[str, tuple[Layout, dict[str, Any]]] = {
    "square": (Layout((4, 4), (2, 2)), {}),
    "not square": (Layout((2, 6), (2, 3)), {}),
    "more columns than rows": (Layout((6, 4), (2, 2)), {}),
    "one block": (Layout((4, 4), (4, 4)), {}),
    "one-token blocks": (Layout((2, 3), (1, 1)), {}),
    "video": (Layout((4, 2, 2), (2, 2, 1)), {}),
    "sequence": (Layout((12,), (3,)), {}),
    "repeated and missing views": (Layout((4, 6), (2, 2)), {"blocks": (1, 1, 4)}),
    "first block, several draws": (Layout((4, 4), (2, 2)), {"blocks": (0, 0)}),
    "window and sinks": (Layout((12,), (2,)), {"window": 2, "sinks": 1}),
}


def views_of(given: Tensor, options: dict[str, Any]) -> Tensor:
    """The noised blocks or timesteps that the views of a case need."""
    return given[:, : len(options["blocks"])] if "blocks" in options else given


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize("backend", ["dense", "split", "flex"])
@pytest.mark.parametrize(("layout", "options"), CASES.values(), ids=CASES)
def test_network_equals_the_reference(layout, options, backend):
    model, given = build(layout), tiny_inputs(layout, dtype=torch.float64)
    model.set_attention_backend(backend)
    noised, timestep = (views_of(tensor, options) for tensor in (given.noised, given.timestep))
    with torch.no_grad():
        answer = model(
            noised,
            timestep,
            layout=layout,
            clean=given.clean,
            labels=given.labels,
            return_hidden_states=True,
            **options,
        )
        sample, states = reference(model, noised, timestep, given.clean, given.labels, layout, **options)
    assert relative_error(answer.sample, sample) < 1e-9
    assert relative_error(answer.hidden_states, states) < 1e-9


@pytest.mark.parametrize("name", ["not square", "video"])
def test_network_in_float32(name):
    layout, _ = CASES[name]
    model, given = build(layout, dtype=torch.float32), tiny_inputs(layout)
    with torch.no_grad():
        answer = model(
            given.noised, given.timestep, layout=layout, clean=given.clean, labels=given.labels
        ).sample
        model, given = model.double(), tiny_inputs(layout, dtype=torch.float64)
        expected, _ = reference(model, *given, layout=layout)
    assert answer.dtype == torch.float32 and relative_error(answer, expected) < TOLERANCE[torch.float32]


TRACED, MANY = "traced whole", "split, many keys"
FORMS = {
    "dense": (*CASES["repeated and missing views"], "dense"),
    "split": (*CASES["repeated and missing views"], "split"),
    # more than 256 keys of views and of clean blocks, so that parts are merged
    MANY: (Layout((16, 18), (8, 2)), {"blocks": (1, 9, 17)}, "split"),
}


def gradients(model: ACDiTTransformer, output: Tensor) -> dict[str, Tensor]:
    weights = torch.randn(output.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    names, parameters = zip(*model.named_parameters(), strict=True)
    grads = torch.autograd.grad((output * weights).sum(), parameters)
    return dict(zip(names, grads, strict=True))


@pytest.mark.filterwarnings("ignore:Dynamo detected a call to a `functools.lru_cache`")
@pytest.mark.parametrize(
    ("layout", "options", "backend", "way"),
    [
        pytest.param(
            *form, way, id=f"{name}-{way}", marks=[pytest.mark.long] * (name == MANY and way == TRACED)
        )
        for name, form in FORMS.items()
        for way in ("plain", "gradient checkpointing", TRACED)
    ],
)
def test_gradients_equal_the_reference(layout, options, backend, way):
    model, given = build(layout).train(), tiny_inputs(layout, dtype=torch.float64)
    model.set_attention_backend(backend)
    if way == "gradient checkpointing":
        model.enable_gradient_checkpointing()
    if way == TRACED:  # all that torch.compile does but for generating code
        model.compile_repeated_blocks(fullgraph=True, backend="aot_eager")
    noised, timestep = (views_of(tensor, options) for tensor in (given.noised, given.timestep))
    answer = model(noised, timestep, layout=layout, clean=given.clean, labels=given.labels, **options).sample
    expected, _ = reference(model, noised, timestep, given.clean, given.labels, layout, **options)
    expected_gradients = gradients(model, expected)
    for name, gradient in gradients(model, answer).items():
        assert relative_error(gradient, expected_gradients[name]) < 1e-9, name


def test_one_block_is_an_ordinary_bidirectional_dit():
    layout = Layout((4, 6), (4, 6))
    model, given = build(layout), tiny_inputs(layout, dtype=torch.float64)
    nothing = given.clean[:, :0]
    with torch.no_grad():
        answer = model(
            given.noised, given.timestep, layout=layout, clean=given.clean, labels=given.labels
        ).sample
        # Without clean blocks the reference's mask is all true: full attention.
        assert scam([(True, 0)], layout.num_tokens, None, 0).all()
        expected, _ = reference(model, given.noised, given.timestep, nothing, given.labels, layout)
    assert relative_error(answer, expected) < 1e-9


@pytest.mark.parametrize("layout", [Layout((2, 3), (1, 1)), Layout((5,), (1,))], ids=str)
@pytest.mark.parametrize("backend", ["dense", "split"])
def test_blocks_of_one_token_are_autoregression_token_by_token(layout, backend):
    """Each token is predicted as the last one of an ordinary causal sequence, anew for every prefix."""
    model, given = build(layout), tiny_inputs(layout, dtype=torch.float64)
    model.set_attention_backend(backend)
    with torch.no_grad():
        answer = model(
            given.noised, given.timestep, layout=layout, clean=given.clean, labels=given.labels
        ).sample
        for index in range(layout.num_tokens):
            view, timestep = given.noised[:, index : index + 1], given.timestep[:, index : index + 1]
            causal = torch.ones(index + 1, index + 1, dtype=torch.bool).tril()
            prefix = given.clean[:, :index]
            expected, _ = reference(
                model, view, timestep, prefix, given.labels, layout, blocks=(index,), mask=causal
            )
            assert relative_error(answer[:, index], expected[:, 0]) < 1e-9, index


@pytest.mark.parametrize("layout", [Layout((4, 6), (2, 3)), Layout((5,), (1,))], ids=str)
def test_a_clean_block_is_seen_by_later_views_alone(layout):
    model, given = build(layout), tiny_inputs(layout, dtype=torch.float64)

    def predict(clean):
        with torch.no_grad():
            return model(given.noised, given.timestep, layout=layout, clean=clean, labels=given.labels).sample

    before = predict(given.clean)
    for j in range(layout.num_blocks):
        changed = given.clean.clone()
        changed[:, j] += 1
        after = predict(changed)
        for i in range(layout.num_blocks):
            error = relative_error(after[:, i], before[:, i])
            assert error < 1e-12 if i <= j else error > 1e-4, (i, j)


def test_a_view_is_seen_by_itself_alone():
    layout = Layout((4, 4), (2, 2))
    model, given = build(layout), tiny_inputs(layout, dtype=torch.float64)
    options = {"layout": layout, "clean": given.clean, "blocks": (0, 1, 1, 3)}

    def predict(noised, timestep, labels):
        with torch.no_grad():
            return model(noised, timestep, labels=labels, **options).sample

    labels = given.labels[:, None].repeat(1, 4)
    before = predict(given.noised, given.timestep, labels)
    noised, timestep, other_labels = given.noised.clone(), given.timestep.clone(), labels.clone()
    noised[:, 1] += 1
    timestep[:, 1] = 999 - timestep[:, 1]
    other_labels[:, 1] = 0
    for changes in (
        (noised, given.timestep, labels),
        (given.noised, timestep, labels),
        (given.noised, given.timestep, other_labels),
    ):
        after = predict(*changes)
        for view in range(4):
            error = relative_error(after[:, view], before[:, view])
            assert error > 1e-4 if view == 1 else error < 1e-12


def test_the_last_clean_block_is_never_needed():
    layout = Layout((4, 4), (2, 2))
    model, given = build(layout), tiny_inputs(layout, dtype=torch.float64)
    clean = given.clean.clone()
    clean[:, -1] = torch.nan
    with torch.no_grad():
        answers = [
            model(given.noised, given.timestep, layout=layout, clean=part, labels=given.labels).sample
            for part in (given.clean[:, :-1], given.clean, clean)
        ]
    assert answers[0].norm() > 0
    assert torch.equal(answers[0], answers[1]) and torch.equal(answers[0], answers[2])


def linear_flops(model, *args, **kwargs) -> int:
    """FLOPs of all matrix products with weights in one call."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(*args, **kwargs)
    counts = {str(name): count for name, count in counter.get_flop_counts()["Global"].items()}
    return counts["aten.mm"] + counts["aten.addmm"]


def expected_flops(config, clean_tokens: int, views: int, tokens: int, conditions: int | None = None) -> int:
    """2 FLOPs a weight: clean tokens pay for all layers but the last, and there for keys and values alone.

    Every view has a condition of its own, unless told otherwise.
    """
    h, layers, channels = config.hidden_size, config.num_layers, config.in_channels
    clean = channels * h + (layers - 1) * 12 * h * h + 2 * h * h
    noised = 2 * channels * h + layers * 12 * h * h
    per_view = 256 * h + h * h + layers * 6 * h * h + 2 * h * h
    conditions = views if conditions is None else conditions
    return 2 * (clean_tokens * clean + views * tokens * noised + conditions * per_view)


@pytest.mark.parametrize(
    ("blocks", "given_clean", "read"),
    [
        pytest.param((0, 1, 2, 3), 4, 3, id="all views, the last clean block unread"),
        pytest.param((0, 1, 2, 3), 3, 3, id="all views"),
        pytest.param((0, 0), 4, 0, id="views of the first block: no clean stream"),
        pytest.param((1, 1, 1), 4, 1, id="one clean pass for several draws"),
        pytest.param((1, 2), 4, 2, id="later clean blocks unread"),
    ],
)
def test_what_nobody_reads_costs_nothing(blocks, given_clean, read):
    layout, batch = Layout((4, 4), (2, 2)), 2
    model, given = build(layout, num_layers=3), tiny_inputs(layout, batch, dtype=torch.float64)
    views = len(blocks)
    flops = linear_flops(
        model,
        given.noised[:, :views],
        given.timestep[:, :views],
        layout=layout,
        blocks=blocks,
        clean=given.clean[:, :given_clean],
        labels=given.labels,
    )
    assert flops == batch * expected_flops(model.config, read * 4, views, 4)


def test_one_block_costs_what_dit_costs():
    layout = Layout((4, 4), (4, 4))
    model, given = build(layout), tiny_inputs(layout, dtype=torch.float64)
    flops = linear_flops(
        model, given.noised, given.timestep, layout=layout, clean=given.clean, labels=given.labels
    )
    assert flops == 2 * expected_flops(model.config, 0, 1, 16)


def test_a_step_through_the_cache_costs_its_views():
    layout = Layout((4, 4), (2, 2))
    model, given = build(layout), tiny_inputs(layout, dtype=torch.float64)
    options = {
        "layout": layout,
        "cache": model.new_cache(layout, 2),
        "blocks": (2, 2),
        "labels": given.labels,
    }
    views = given.noised[:, :2], given.timestep[:, :2]
    with_clean = linear_flops(model, *views, clean=given.clean[:, :2], **options)
    assert with_clean == 2 * expected_flops(model.config, 2 * 4, 2, 4)
    # The same timesteps and labels again cost no conditions; one that is new costs its own.
    assert linear_flops(model, *views, **options) == 2 * expected_flops(model.config, 0, 2, 4, conditions=0)
    views[1][0, 1] = 17.0
    one_more = expected_flops(model.config, 0, 4, 4, conditions=1)
    assert linear_flops(model, *views, **options) == one_more
