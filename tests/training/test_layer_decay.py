"""Learning rates that fall from the output to the embeddings."""

import pytest
import torch

from acdit.model.transformer import ACDiTTransformer
from acdit.training.learner import layer_groups
from acdit.training.run import Run
from acdit.utils.errors import UserError
from tests.training.small import advance, all_state, small_recipe, unequal

DECAY = 0.5
LAYERS = 2
# powers of the decay by the beginning of a parameter's name, written out from the definition
POWERS = {"x_embedder": 3, "t_embedder": 3, "y_embedder": 3, "blocks.0": 2, "blocks.1": 1, "final_layer": 0}


def run_of(out, decay: float, **changes) -> Run:
    return Run(
        small_recipe(
            out,
            model={"num_layers": LAYERS},
            optimizer={"layer_decay": decay, "schedule": "constant"},
            **changes,
        )
    )


def test_every_layer_moves_at_its_own_rate(tmp_path):
    even, falling = run_of(tmp_path / "even", 1.0), run_of(tmp_path / "falling", DECAY)
    for run in (even, falling):  # at first the output is zero, and the layers before it have no gradients
        source = torch.Generator().manual_seed(0)
        for parameter in run.learner.parameters:
            torch.nn.init.normal_(parameter, std=0.2, generator=source)
    before = all_state(even)
    assert not unequal(before, all_state(falling))
    for run in (even, falling):
        advance(run, 1)
    one, other = all_state(even), all_state(falling)
    assert any(name.startswith("exp_avg.blocks.1") for name in one)
    for name, start in before.items():
        part, _, parameter = name.partition(".")
        if part != "model":
            continue
        # the gradients are those of the same weights, so the moments agree under the same names
        for moment in ("exp_avg", "exp_avg_sq"):
            assert one[f"{moment}.{parameter}"].equal(other[f"{moment}.{parameter}"])
        (power,) = (power for begin, power in POWERS.items() if parameter.startswith(f"{begin}."))
        moved, expected = other[name] - start, (one[name] - start) * DECAY**power
        assert (moved - expected).abs().max() < 1e-6  # rounding of the weights
        assert expected.abs().max() > 1e-4


def test_groups_keep_the_order_of_the_parameters():
    network = ACDiTTransformer(4, (4, 4), num_layers=3, hidden_size=16, num_heads=1, num_classes=2)
    parameters = dict(network.named_parameters())
    for decay, count in ((1.0, 1), (0.5, 5)):
        groups = layer_groups(parameters, 3, decay)
        assert len(groups) == count
        assert [id(each) for group in groups for each in group["params"]] == [*map(id, parameters.values())]
    assert [group["rate_factor"] for group in groups] == [0.0625, 0.125, 0.25, 0.5, 1.0]


def test_a_run_with_layer_decay_resumes_bit_for_bit(tmp_path):
    whole, cut = run_of(tmp_path / "whole", DECAY), run_of(tmp_path / "cut", DECAY)
    advance(whole, 4)
    advance(cut, 2)
    cut.save()
    resumed = run_of(tmp_path / "cut", DECAY)
    assert resumed.step == 2
    advance(resumed, 2)
    assert not unequal(all_state(whole), all_state(resumed))
    with pytest.raises(UserError, match=r"optimizer\.layer_decay was 0\.5 and is 1\.0"):
        run_of(tmp_path / "cut", 1.0)


@pytest.mark.parametrize("decay", [0.0, -0.5, 1.5])
def test_factors_out_of_range_are_refused(decay, tmp_path):
    with pytest.raises(UserError, match=r"optimizer\.layer_decay must be"):
        run_of(tmp_path, decay)
