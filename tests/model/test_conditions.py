"""The memo of conditions: every vector made once, the right one given back, and bytes bounded."""

import torch

from acdit.model.conditioning import ConditionMemo, Conditions


def test_every_pair_is_made_once_and_given_back_in_order():
    memo, asked = ConditionMemo(), []
    vectors = {"a": torch.tensor([1.0, 2.0]), "b": torch.tensor([3.0, 4.0]), "c": torch.tensor([5.0, 6.0])}

    def given(keys):
        def module(rows):
            asked.append(len(rows))
            return 10 * rows

        made = Conditions(torch.stack([vectors[key] for key in keys]), memo, keys).through("use", module)
        assert torch.equal(made, 10 * torch.stack([vectors[key] for key in keys]))

    given(("a", "b", "a"))
    given(("b", "a"))
    given(("c", "a", "c", "b"))
    assert asked == [2, 1]


def test_uses_are_kept_apart():
    memo, x = ConditionMemo(), torch.ones(1, 2)
    conditions = Conditions(x, memo, ("a",))
    assert torch.equal(conditions.through(0, lambda rows: 2 * rows), 2 * x)
    assert torch.equal(conditions.through(1, lambda rows: 3 * rows), 3 * x)
    assert torch.equal(conditions.through(0, lambda rows: 4 * rows), 2 * x)


def test_bytes_are_bounded():
    memo = ConditionMemo(max_bytes=100)
    for key in range(50):
        made = memo.rows("use", (key,), lambda places: torch.full((1, 10), 7.0))  # 40 bytes
        assert torch.equal(made, torch.full((1, 10), 7.0))
        assert sum(each.nbytes for known in memo._vectors.values() for each in known.values()) <= 100 + 40
