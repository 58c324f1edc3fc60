"""The test that defines this project: a sampling step through the cache is the teacher-forced output."""

import pytest
import torch

from acdit.model.kv_cache import KVCache
from acdit.model.layout import Layout
from tests.tiny import TINY, TOLERANCE, relative_error, tiny_inputs, tiny_model

NULL = TINY["num_classes"]
LAYOUTS = [
    Layout((4, 4), (2, 2)),
    Layout((2, 6), (2, 3)),
    Layout((6, 4), (2, 2)),
    Layout((4, 6), (4, 1)),
    Layout((4, 2, 2), (2, 2, 1)),
    Layout((12,), (3,)),
]


def teacher_forced(model, layout, given, labels, **options):
    """All predictions (N, T, B, C) of one call over all blocks."""
    return model(
        given.noised, given.timestep, layout=layout, clean=given.clean, labels=labels, **options
    ).sample


def stepped(model, layout, given, in_one_call, **options):
    """Predictions (N, 2, T, B, C), both branches of guidance, block after block through one cache."""
    batch = len(given.labels)
    cache = model.new_cache(layout, batch)
    labels = torch.stack((given.labels, torch.full_like(given.labels, NULL)), 1)
    answers = []
    for index in range(layout.num_blocks):
        clean = given.clean[:, index - 1 : index] if index else None
        if clean is not None and not in_one_call:
            filled = model(None, layout=layout, clean=clean, cache=cache, **options)
            assert filled.sample is None
            clean = None
        step = {"layout": layout, "blocks": (index, index), "labels": labels, "cache": cache, **options}
        # An earlier step of the same block leaves nothing behind: its noised keys are discarded.
        model(given.noised[:, [-1, -1]] + 1, given.timestep[:, [0, 0]] / 2, clean=clean, **step)
        answer = model(given.noised[:, [index, index]], given.timestep[:, [index, index]], **step)
        answers.append(answer.sample)
        assert cache.num_blocks == index
    return torch.stack(answers, 2)


@pytest.mark.parametrize("in_one_call", [True, False], ids=["one call", "two calls"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_cached_is_teacher_forced(layout, dtype, in_one_call):
    model = tiny_model(dtype=dtype, axis_lengths=layout.grid)
    given = tiny_inputs(layout, dtype=dtype)
    with torch.no_grad():
        steps = stepped(model, layout, given, in_one_call)
        for branch, labels in enumerate((given.labels, torch.full_like(given.labels, NULL))):
            expected = teacher_forced(model, layout, given, labels)
            for index in range(layout.num_blocks):
                assert relative_error(steps[:, branch, index], expected[:, index]) < TOLERANCE[dtype], index
        assert relative_error(steps[:, 0], steps[:, 1]) > 1e-3


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize("backend", ["dense", "flex"])
def test_cached_is_teacher_forced_with_other_backends(backend):
    layout = LAYOUTS[1]
    model, given = (
        tiny_model(dtype=torch.float64, axis_lengths=layout.grid),
        tiny_inputs(layout, dtype=torch.float64),
    )
    with torch.no_grad():
        expected = teacher_forced(model, layout, given, given.labels)
        model.set_attention_backend(backend)
        assert relative_error(stepped(model, layout, given, True)[:, 0], expected) < 1e-9


@pytest.mark.parametrize(("window", "sinks"), [(1, 0), (2, 1)])
def test_cached_is_teacher_forced_with_a_window(window, sinks):
    layout = Layout((12,), (2,))
    model, given = (
        tiny_model(dtype=torch.float64, axis_lengths=layout.grid),
        tiny_inputs(layout, dtype=torch.float64),
    )
    with torch.no_grad():
        expected = teacher_forced(model, layout, given, given.labels, window=window, sinks=sinks)
        steps = stepped(model, layout, given, True, window=window, sinks=sinks)
        assert relative_error(steps[:, 0], expected) < 1e-9
        assert relative_error(expected, teacher_forced(model, layout, given, given.labels)) > 1e-3


def test_a_prefix_of_several_blocks_at_once():
    layout = Layout((6, 4), (2, 2))
    model, given = tiny_model(dtype=torch.float64), tiny_inputs(layout, dtype=torch.float64)
    cache = model.new_cache(layout, 2)
    with torch.no_grad():
        expected = teacher_forced(model, layout, given, given.labels)
        for start, stop in ((0, 2), (2, 4), (4, 5)):
            # Views of several blocks in one call, earlier than the last clean one too.
            blocks = tuple(range(stop + 1))
            answer = model(
                given.noised[:, : stop + 1],
                given.timestep[:, : stop + 1],
                layout=layout,
                blocks=blocks,
                clean=given.clean[:, start:stop],
                labels=given.labels,
                cache=cache,
            ).sample
            assert relative_error(answer, expected[:, : stop + 1]) < 1e-9


def contents(model, layout, given, labels):
    """All cached keys and values after a call with views."""
    cache = model.new_cache(layout, len(given.labels))
    with torch.no_grad():
        model(
            given.noised, given.timestep, layout=layout, clean=given.clean[:, :-1], labels=labels, cache=cache
        )
    layers = [torch.stack(cache.read(layer, 0)) for layer in range(model.config["num_layers"])]
    return torch.stack(layers)


def test_labels_timesteps_and_noise_change_no_cached_key():
    layout = Layout((4, 4), (2, 2))
    model, given = tiny_model(), tiny_inputs(layout)
    expected = contents(model, layout, given, given.labels)
    assert (
        expected.shape == (2, 2, 2, 2, 12, 16) and (expected.flatten(0, 1).flatten(1).norm(dim=1) > 0).all()
    )
    others = (
        (given, torch.full_like(given.labels, NULL)),
        (given._replace(timestep=999 - given.timestep), given.labels),
        (given._replace(noised=-given.noised), given.labels),
    )
    for inputs, labels in others:
        assert torch.equal(contents(model, layout, inputs, labels), expected)
    changed = contents(model, layout, given._replace(clean=given.clean + 1), given.labels)
    assert relative_error(changed, expected) > 1e-3


def test_filled_blocks_stay_as_they_are():
    layout = Layout((12,), (3,))
    model, given = tiny_model(axis_lengths=(12,)), tiny_inputs(layout)
    cache = model.new_cache(layout, 2)
    with torch.no_grad():
        model(None, layout=layout, clean=given.clean[:, :2], cache=cache)
        before = [tensor.clone() for tensor in cache.read(1, 0)]
        model(None, layout=layout, clean=given.clean[:, 2:3], cache=cache)
    for old, now in zip(before, cache.read(1, 0), strict=True):
        assert old.norm() > 0 and torch.equal(old, now[:, :, : old.shape[2]])


def test_bytes():
    layout = Layout((4, 4), (2, 2), (2, 2))
    # 2 (keys, values) x 2 layers x 3 samples x 32 values x 3 blocks of 4 tokens, 4 or 2 bytes each
    assert tiny_model().new_cache(layout, 3).nbytes == 2 * 2 * 3 * 32 * 12 * 4
    assert tiny_model(dtype=torch.bfloat16).new_cache(layout, 3).nbytes == 2 * 2 * 3 * 32 * 12 * 2


@pytest.mark.parametrize(
    ("message", "layout", "batch", "blocks"),
    [
        ("2 samples of grid 4x4, block 2x2, not 2 of grid 4x4, block 4x2", Layout((4, 4), (4, 2)), 2, 1),
        ("2 samples of grid 4x4, block 2x2, not 3 of", Layout((4, 4), (2, 2)), 3, 1),
        ("room for 3 clean blocks", Layout((4, 4), (2, 2)), 2, 4),
    ],
)
def test_what_does_not_fit(message, layout, batch, blocks):
    model = tiny_model()
    cache = model.new_cache(Layout((4, 4), (2, 2)), 2)
    assert isinstance(cache, KVCache)
    with pytest.raises(ValueError, match=message):
        model(None, layout=layout, clean=tiny_inputs(layout, batch).clean[:, :blocks], cache=cache)
    assert cache.num_blocks == 0


def test_a_network_of_classes_without_timesteps_keeps_its_conditions_too():
    layout = LAYOUTS[0]
    model = tiny_model(dtype=torch.float64, axis_lengths=layout.grid, time_conditioning=False)
    given = tiny_inputs(layout, dtype=torch.float64)
    with torch.no_grad():
        expected = teacher_forced(model, layout, given, given.labels)
        steps = stepped(model, layout, given, True)
    assert relative_error(steps[:, 0], expected) < 1e-9
    assert relative_error(steps[:, 1], expected) > 1e-3


def test_a_call_for_nothing_says_so():
    layout = LAYOUTS[0]
    model, given = tiny_model(axis_lengths=layout.grid), tiny_inputs(layout)
    for clean in (None, given.clean):
        with pytest.raises(ValueError, match="give noised blocks, or clean blocks with a cache"):
            model(None, layout=layout, clean=clean)
