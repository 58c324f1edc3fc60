"""Positions other than RoPE-ND, against the slow reference and the embeddings of diffusers."""

import json
from typing import Any

import pytest
import torch
from diffusers.models.embeddings import (
    get_1d_sincos_pos_embed_from_grid,
    get_2d_sincos_pos_embed,
    get_3d_sincos_pos_embed,
)

from acdit.model.classifier import ACDiTForImageClassification
from acdit.model.layout import Layout
from acdit.model.positions import sincos_table
from acdit.model.rope import POSITIONS, Rotation
from acdit.model.transformer import ACDiTTransformer
from acdit.utils.errors import UserError
from tests.model.test_cache import stepped, teacher_forced
from tests.reference import build, one_stream, reference
from tests.tiny import TINY, relative_error, tiny_inputs, tiny_model

OTHERS = [name for name in POSITIONS if name != "rope_nd"]
LAYOUTS = [Layout((2, 6), (2, 3)), Layout((4, 2, 2), (2, 2, 1)), Layout((12,), (3,))]


@pytest.mark.parametrize("positions", OTHERS)
@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_the_network_equals_the_reference(layout, positions):
    model = build(layout, positions=positions)
    given = tiny_inputs(layout, dtype=torch.float64)
    with torch.no_grad():
        answer = model(
            given.noised,
            given.timestep,
            layout=layout,
            clean=given.clean,
            labels=given.labels,
            return_hidden_states=True,
        )
        sample, states = reference(model, *given, layout=layout)
        named = model(None, layout=layout, clean=given.clean, return_hidden_states=(0,)).hidden_states
    assert relative_error(answer.sample, sample) < 1e-9
    assert relative_error(answer.hidden_states, states) < 1e-9
    embedded = given.clean @ dict(model.named_parameters())["x_embedder.weight"].T
    assert (relative_error(named[0], embedded) < 1e-9) == (positions != "absolute")


@pytest.mark.parametrize("positions", OTHERS)
@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_cached_is_teacher_forced(layout, positions):
    model = tiny_model(dtype=torch.float64, axis_lengths=layout.grid, positions=positions)
    given = tiny_inputs(layout, dtype=torch.float64)
    with torch.no_grad():
        steps = stepped(model, layout, given, True)
        expected = teacher_forced(model, layout, given, given.labels)
    assert relative_error(steps[:, 0], expected) < 1e-9


@pytest.mark.parametrize("positions", OTHERS)
def test_with_noised_context(positions):
    layout = LAYOUTS[0]
    model = build(layout, positions=positions, context="noised")
    given = tiny_inputs(layout, dtype=torch.float64)
    common: dict[str, Any] = {"layout": layout, "labels": given.labels}
    with torch.no_grad():
        answer = model(given.noised, given.timestep, **common).sample
        assert relative_error(answer, one_stream(model, given.noised, given.timestep, **common)[0]) < 1e-9
        cache = model.new_cache(layout, 2)
        times = torch.tensor([[0.0, 500.0]] * 2)
        pair = torch.cat((given.clean[:, :1], given.noised[:, 1:]), 1)
        expected = one_stream(model, pair, times.double(), **common)[0][:, 1]
        views = pair[:, 1:], times[:, 1:].double()
        answer = model(*views, blocks=[1], clean=pair[:, :1], cache=cache, **common).sample[:, 0]
    assert relative_error(answer, expected) < 1e-9


def test_absolute_embeddings_are_those_of_diffusers():
    """Diffusers puts columns before rows; here axes are in order."""
    cpu, wide = torch.device("cpu"), torch.float64

    def table(width: int, grid: tuple[int, ...]) -> torch.Tensor:
        return sincos_table(width, Layout(grid, grid), range(1), wide, cpu)[0]  # (L, width)

    line = get_1d_sincos_pos_embed_from_grid(24, torch.arange(7), output_type="pt", dtype=wide)
    assert relative_error(table(24, (7,)), line) < 1e-12
    plane = get_2d_sincos_pos_embed(32, 5, base_size=5, output_type="pt")
    columns, rows = plane.chunk(2, -1)
    assert relative_error(table(32, (5, 5)), torch.cat((rows, columns), -1)) < 1e-6
    space = get_3d_sincos_pos_embed(32, (3, 2), 4, output_type="pt").flatten(0, 1)  # 3 columns, 2 rows
    frames, columns, rows = space.split((8, 12, 12), -1)
    assert relative_error(table(32, (4, 2, 3)), torch.cat((frames, rows, columns), -1)) < 1e-6


def test_a_network_without_positions_does_not_tell_tokens_apart():
    layout = Layout((4, 6), (4, 6))
    given = tiny_inputs(layout, dtype=torch.float64)
    order = torch.randperm(24, generator=torch.Generator().manual_seed(0))
    for positions in POSITIONS:
        model = build(layout, positions=positions)
        with torch.no_grad():
            first, second = (
                model(noised, given.timestep, layout=layout, labels=given.labels).sample
                for noised in (given.noised, given.noised[:, :, order])
            )
        assert (relative_error(second, first[:, :, order]) < 1e-9) == (positions == "none")


@pytest.mark.parametrize("positions", ["rope_nd", "rope_1d", "none"])
@pytest.mark.parametrize("layout", [Layout((6, 2, 2), (1, 2, 2)), Layout((12,), (2,))], ids=str)
def test_keys_that_are_moved_along_the_first_axis(layout, positions):
    """What sinks need: keys of the first block, as they would be in a later one."""
    split = (8, 4, 4) if positions == "rope_nd" and layout.axes == 3 else (16,)
    lengths = layout.grid if positions == "rope_nd" else (layout.num_tokens,)
    rotation = Rotation(lengths, split, "eq4", torch.float64, torch.device("cpu"), positions)
    keys = torch.randn(1, 1, layout.block_tokens, 1, 16, generator=torch.Generator().manual_seed(0)).double()
    first, fourth = (rotation.table(layout, range(block, block + 1)).rotate(keys) for block in (0, 3))
    moved = rotation.shifted(layout, first[0].transpose(1, 2), 3 * layout.block[0])
    assert relative_error(moved, fourth[0].transpose(1, 2)) < 1e-12
    assert torch.equal(first, fourth) == (positions == "none")


def test_absolute_positions_have_no_sinks():
    layout = Layout((12,), (2,))
    model = build(layout, positions="absolute")
    with pytest.raises(UserError, match="absolute positions does not support sinks"):
        model.new_cache(layout, 1, window=2, sinks=1)
    model.new_cache(layout, 1, window=2)


def test_configs_of_earlier_versions_load_unchanged(tmp_path):
    layout = Layout((4, 4), (2, 2))
    model, given = tiny_model(), tiny_inputs(layout)
    model.save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    stored = json.loads(path.read_text())
    assert (stored.pop("positions"), stored.pop("context")) == ("rope_nd", "clean")
    path.write_text(json.dumps(stored))
    loaded = ACDiTTransformer.from_pretrained(tmp_path)
    answers = [
        network(given.noised, given.timestep, layout=layout, clean=given.clean, labels=given.labels).sample
        for network in (model, loaded)
    ]
    assert torch.equal(*answers)


@pytest.mark.parametrize("config", [{"positions": "rope_1d"}, {"context": "noised"}], ids=str)
def test_stored_networks_keep_the_choice(tmp_path, config):
    layout, given = Layout((4, 4), (2, 2)), tiny_inputs(Layout((4, 4), (2, 2)))
    model = tiny_model(**config)
    model.save_pretrained(tmp_path)
    loaded = ACDiTTransformer.from_pretrained(tmp_path)
    answers = [
        network(given.noised, given.timestep, layout=layout, labels=given.labels, clean=given.clean).sample
        for network in (model, loaded)
    ]
    assert torch.equal(*answers)
    path = tmp_path / "config.json"
    key = next(iter(config))
    path.write_text(path.read_text().replace(f'"{config[key]}"', '"other"'))
    with pytest.raises(UserError, match=key):
        ACDiTTransformer.from_pretrained(tmp_path)


def test_a_classifier_has_the_positions_of_its_generator():
    layout = Layout((4, 4), (2, 2))
    for positions in OTHERS:
        generator, clean = tiny_model(positions=positions), tiny_inputs(layout).clean
        classifier = ACDiTForImageClassification.from_generator(generator, 3)
        with torch.no_grad():
            (features,) = classifier.features(clean, layout=layout, layers=[2])
            (states,) = generator(None, layout=layout, clean=clean, return_hidden_states=(2,)).hidden_states
        assert torch.equal(features, states)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"positions": "rope_2d"}, "positions must be one of rope_nd, rope_1d, absolute, none"),
        ({"positions": "rope_1d", "rope": "published"}, "rope and rope_split are for positions rope_nd"),
        ({"positions": "none", "rope_split": (8, 8)}, "rope and rope_split are for positions rope_nd"),
        ({"positions": "absolute", "hidden_size": 34}, "a hidden size of 34 cannot be split over 2 axes"),
        ({"positions": "rope_1d", "hidden_size": 30}, "sum to the head dimension 15"),
    ],
)
def test_positions_that_do_not_fit_are_refused(config, message):
    with pytest.raises(ValueError, match=message):
        ACDiTTransformer(**(TINY | config))
