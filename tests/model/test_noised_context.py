"""The network with noised context, against one stream of blocks under a causal mask, written with loops."""

import copy
import itertools
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.export import Dim

from acdit.diffusion.class_losses import denoising_class_losses
from acdit.diffusion.continuous import DiffusionObjective
from acdit.diffusion.generate import Guidance, draw_noise, generate
from acdit.diffusion.objective import SampleKey
from acdit.diffusion.schedulers import default_sampler
from acdit.model.classifier import ACDiTForImageClassification
from acdit.model.layout import Layout
from acdit.model.transformer import ACDiTTransformer
from acdit.utils.errors import UserError
from tests.model.test_tracing import export
from tests.model.test_transformer import gradients
from tests.reference import build, one_stream
from tests.tiny import TINY, relative_error, tiny_inputs

SQUARE = Layout((4, 4), (2, 2))
CASES: dict[str, tuple[Layout, dict[str, Any]]] = {
    "square": (SQUARE, {}),
    "not square": (Layout((2, 6), (2, 3)), {}),
    "video": (Layout((4, 2, 2), (2, 2, 1)), {}),
    "one-token blocks": (Layout((5,), (1,)), {}),
    "window and sinks": (Layout((12,), (2,)), {"window": 2, "sinks": 1}),
}
NULL = TINY["num_classes"]


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize(
    ("name", "backend"),
    [*itertools.product(CASES, ("dense", "split")), ("not square", "flex"), ("window and sinks", "flex")],
)
def test_training_is_one_stream(name, backend):
    layout, options = CASES[name]
    model, given = build(layout, context="noised"), tiny_inputs(layout, dtype=torch.float64)
    model.set_attention_backend(backend)
    arguments: dict[str, Any] = {"layout": layout, "labels": given.labels, **options}
    with torch.no_grad():
        answer = model(given.noised, given.timestep, return_hidden_states=True, **arguments)
        sample, states = one_stream(model, given.noised, given.timestep, **arguments)
    assert relative_error(answer.sample, sample) < 1e-9
    assert relative_error(answer.hidden_states, states) < 1e-9


@pytest.mark.filterwarnings("ignore:Dynamo detected a call to a `functools.lru_cache`")
@pytest.mark.parametrize(
    ("layout", "backend", "way"),
    [
        (SQUARE, "dense", "plain"),
        (SQUARE, "split", "plain"),
        (SQUARE, "split", "gradient checkpointing"),
        (SQUARE, "split", "traced whole"),
        (Layout((16, 18), (8, 6)), "split", "plain"),  # more than 256 keys, so that parts are merged
    ],
    ids=str,
)
def test_gradients_are_those_of_one_stream(layout, backend, way):
    model, given = build(layout, context="noised").train(), tiny_inputs(layout, dtype=torch.float64)
    model.set_attention_backend(backend)
    if way == "gradient checkpointing":
        model.enable_gradient_checkpointing()
    if way == "traced whole":  # all that torch.compile does but for generating code
        model.compile_repeated_blocks(fullgraph=True, backend="aot_eager")
    answer = model(given.noised, given.timestep, layout=layout, labels=given.labels).sample
    expected = gradients(model, one_stream(model, given.noised, given.timestep, given.labels, layout)[0])
    for name, gradient in gradients(model, answer).items():
        assert relative_error(gradient, expected[name]) < 1e-9, name


@pytest.mark.long
def test_an_exported_program_is_the_network_for_every_batch_size():
    model = build(SQUARE, context="noised")

    def named(batch: int) -> dict[str, Any]:
        given = tiny_inputs(SQUARE, batch, batch, torch.float64)
        views = {"noised": given.noised, "timestep": given.timestep, "labels": given.labels}
        return {**views, "layout": SQUARE, "return_dict": False}

    program = export(model, named(3), Dim("batch", min=2, max=64)).module()
    for batch in (2, 3, 7):
        with torch.no_grad():
            result, expected = program(**named(batch))[0], model(**named(batch))[0]
        assert relative_error(result, expected) < 1e-9


def test_a_block_depends_on_itself_and_on_blocks_before_it():
    model, given = build(SQUARE, context="noised"), tiny_inputs(SQUARE, dtype=torch.float64)

    def predicted(noised: Tensor, timestep: Tensor) -> Tensor:
        with torch.no_grad():
            return model(noised, timestep, layout=SQUARE, labels=given.labels).sample

    before = predicted(given.noised, given.timestep)
    for block in range(4):
        noised, timestep = given.noised.clone(), given.timestep.clone()
        noised[:, block] += 1
        timestep[:, block] += 100
        for after in (predicted(noised, given.timestep), predicted(given.noised, timestep)):
            changed = [not torch.equal(after[:, other], before[:, other]) for other in range(4)]
            assert changed == [other >= block for other in range(4)]


def finished_and(given: Any, index: int) -> tuple[Tensor, Tensor]:
    """Finished blocks at the timestep 0 and one noised block after them, with their timesteps."""
    noised = torch.cat((given.clean[:, :index], given.noised[:, index : index + 1]), 1)
    past = torch.zeros(len(noised), index, dtype=noised.dtype)
    return noised, torch.cat((past, given.timestep[:, index : index + 1]), 1)


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize(
    ("name", "backend", "in_one_call"),
    [
        *itertools.product(("not square", "video", "one-token blocks"), ("split",), (True, False)),
        ("not square", "dense", True),
        ("not square", "flex", True),
    ],
)
def test_cached_is_one_stream_whose_past_has_the_timestep_0(name, backend, in_one_call):
    layout, _ = CASES[name]
    model, given = build(layout, context="noised"), tiny_inputs(layout, dtype=torch.float64)
    model.set_attention_backend(backend)
    cache = model.new_cache(layout, 2)
    common: dict[str, Any] = {"layout": layout, "labels": given.labels}
    with torch.no_grad():
        for index in range(layout.num_blocks):
            clean = given.clean[:, index - 1 : index] if index else None
            if clean is not None and not in_one_call:
                model(None, clean=clean, cache=cache, **common)
                clean = None
            views = given.noised[:, [index]], given.timestep[:, [index]]
            answer = model(*views, blocks=[index], clean=clean, cache=cache, **common).sample[:, 0]
            uncached = model(*finished_and(given, index), blocks=range(index + 1), **common).sample[:, -1]
            expected = one_stream(model, *finished_and(given, index), **common)[0][:, -1]
            assert relative_error(answer, expected) < 1e-9 and relative_error(uncached, expected) < 1e-9


def test_views_of_several_blocks_after_clean_ones():
    model, given = build(SQUARE, context="noised"), tiny_inputs(SQUARE, dtype=torch.float64)
    common: dict[str, Any] = {"layout": SQUARE, "labels": given.labels}
    with torch.no_grad():
        answer = model(given.noised, given.timestep, clean=given.clean, **common).sample
        for index in range(4):
            expected = one_stream(model, *finished_and(given, index), **common)[0][:, -1]
            assert relative_error(answer[:, index], expected) < 1e-9


@pytest.mark.parametrize("layout", [Layout((4, 6), (4, 6)), Layout((18, 18), (18, 18))], ids=str)
@pytest.mark.parametrize("backend", ["dense", "split"])
def test_one_block_is_dit_exactly(layout, backend):
    noised, clean = (build(layout, dtype=torch.float32, context=context) for context in ("noised", "clean"))
    given = tiny_inputs(layout)
    answers = []
    for model in (noised, clean):
        model.set_attention_backend(backend)
        with torch.no_grad():
            answers.append(model(given.noised, given.timestep, layout=layout, labels=given.labels).sample)
    assert torch.equal(*answers)


@torch.no_grad()
def loop(model: ACDiTTransformer, labels: Tensor, scale: float) -> Tensor:
    """Sampling without cache: every branch of every step is one stream with the past at the timestep 0."""
    noise = draw_noise(range(2), SQUARE, 3).double()
    finished = noise[:, :0]
    for index in range(4):
        solver: Any = copy.deepcopy(default_sampler("epsilon"))
        solver.set_timesteps(3)
        x = noise[:, index]
        for timestep in solver.timesteps:
            stream = torch.cat((finished, x[:, None]), 1)
            times = torch.zeros(2, index + 1, dtype=torch.float64)
            times[:, -1] = timestep
            conditional, unconditional = (
                one_stream(model, stream, times, branch, SQUARE)[0][:, -1]
                for branch in (labels, torch.full_like(labels, NULL))
            )
            x = solver.step(unconditional + scale * (conditional - unconditional), timestep, x).prev_sample
        finished = torch.cat((finished, x[:, None]), 1)
    return finished


@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_sampling_with_guidance(scale):
    model, labels = build(SQUARE, context="noised"), torch.tensor([1, 3])
    assert model.context_sees_labels and not build(SQUARE).context_sees_labels
    assert not build(SQUARE, context="noised", num_classes=None).context_sees_labels
    noise = draw_noise(range(2), SQUARE, 3).double()
    common: dict[str, Any] = {"scheduler": default_sampler("epsilon"), "steps": 3, "labels": labels}
    blocks = list(generate(model, SQUARE, noise, guidance=Guidance(scale), **common))
    samples = torch.stack([block.sample for block in blocks], 1)
    assert relative_error(samples, loop(model, labels, scale)) < 1e-9
    without = build(SQUARE, context="noised", num_classes=None)
    common["labels"] = None
    assert len(list(generate(without, SQUARE, noise, **common))) == 4


def test_the_objective_gives_every_block_its_own_noise_level():
    model = build(SQUARE, context="noised")
    data, labels = tiny_inputs(SQUARE, dtype=torch.float64).clean, torch.tensor([1, 3])
    calls: list[Any] = []
    model.register_forward_pre_hook(
        lambda _, inputs, options: calls.append((inputs, options)), with_kwargs=True
    )
    key = SampleKey(0, [0, 0], [4, 5])
    with torch.no_grad():
        losses = DiffusionObjective(context="noised", label_dropout=0.0).loss(
            model, data, layout=SQUARE, key=key, labels=labels, null_label=NULL
        )
    (((noised, timesteps), options),) = calls
    assert options["clean"] is None and len(timesteps.unique()) == 8
    objective = DiffusionObjective(label_dropout=0.0)
    noise, expected_timesteps, _ = objective._draw(data, range(4), (0,), key)
    corrupted, target = objective.corrupt(data, noise, expected_timesteps)
    assert torch.equal(corrupted, noised) and torch.equal(expected_timesteps, timesteps)
    prediction, _ = one_stream(model, noised, timesteps, labels, SQUARE)
    expected = (prediction - target).square().mean((2, 3))
    assert relative_error(losses.per_view, expected.detach()) < 1e-9 and losses.blocks == (0, 1, 2, 3)


@pytest.mark.parametrize("options", [{"draws": (0, 1)}, {"blocks": (0, 2)}, {"context_noise": 0.1}], ids=str)
def test_objectives_that_need_clean_blocks_are_refused(options):
    model, data = build(SQUARE, context="noised"), tiny_inputs(SQUARE, dtype=torch.float64).clean
    objective = DiffusionObjective(context="noised", context_noise=options.pop("context_noise", 0.0))
    with pytest.raises(ValueError, match="every block is noised once"):
        objective.loss(model, data, layout=SQUARE, key=SampleKey(0, [0, 0], [0, 1]), **options)


def test_calls_without_meaning_are_refused():
    model, given = build(SQUARE, context="noised"), tiny_inputs(SQUARE, dtype=torch.float64)
    common: dict[str, Any] = {"layout": SQUARE, "labels": given.labels}
    two = given.noised[:, :2], given.timestep[:, :2]
    for blocks in ((0, 0), (0, 2), (2, 3)):
        with pytest.raises(ValueError, match="one view of each of the first blocks"):
            model(*two, blocks=blocks, **common)
    pairs = torch.stack((given.labels, given.labels), 1)
    with pytest.raises(ValueError, match="labels must be one per sample"):
        model(*two, blocks=(1, 1), layout=SQUARE, labels=pairs, clean=given.clean[:, :1])
    with pytest.raises(ValueError, match="bidirectional is for clean blocks"):
        model(None, clean=given.clean, bidirectional=True, return_hidden_states=True, **common)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"context": "blurred"}, "clean or noised, not 'blurred'"),
        ({"context": "noised", "time_conditioning": False}, "with time_conditioning"),
        ({"context": "noised", "in_channels": None, "vocab_size": 5}, "for images and video"),
    ],
)
def test_networks_without_meaning_are_refused(config, message):
    with pytest.raises(ValueError, match=message):
        ACDiTTransformer(**(TINY | config))


def test_such_a_generator_neither_classifies_nor_becomes_a_classifier():
    model = build(SQUARE, context="noised")
    with pytest.raises(UserError, match="learned from clean blocks"):
        ACDiTForImageClassification.from_generator(model, 3)
    blocks = tiny_inputs(SQUARE, dtype=torch.float64).clean
    with pytest.raises(UserError, match="past depends on the class"):
        denoising_class_losses(model, blocks, SQUARE, prediction="epsilon", seed=0, indices=[0, 1], draws=1)
