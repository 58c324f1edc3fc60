"""Which samples, layout and blocks a step gets: functions of seed and step alone."""

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from acdit.training.step_batches import StepBatches, choice, subset

few = settings(max_examples=25, deadline=None)


def flat(batches):
    return [sample for batch in batches for sample in batch]


@few
@given(st.integers(1, 30), st.integers(1, 40), st.integers(1, 12), st.integers(0, 2**32))
def test_every_epoch_is_a_permutation(size, batch_size, steps, seed):
    samples = flat(StepBatches(size, batch_size, range(steps), seed=seed))
    assert len(samples) == steps * batch_size
    whole = len(samples) // size
    for epoch in range(whole + 1):
        seen = Counter(index for of, index in samples if of == epoch)
        if epoch < whole:
            assert seen == Counter(range(size))
        else:
            assert set(seen) <= set(range(size)) and set(seen.values()) <= {1}
    assert [epoch for epoch, _ in samples] == [place // size for place in range(len(samples))]


@few
@given(
    st.integers(1, 30),
    st.integers(1, 3),
    st.integers(1, 4),
    st.integers(1, 3),
    st.integers(1, 6),
    st.integers(0, 9),
)
def test_ranks_and_micro_batches_divide_the_step_of_one_rank(size, ranks, parts, share, steps, seed):
    batch_size = ranks * parts * share
    alone = list(StepBatches(size, batch_size, range(steps), seed=seed))
    divided = [
        list(
            StepBatches(
                size, batch_size, range(steps), seed=seed, accumulation=parts, rank=rank, world_size=ranks
            )
        )
        for rank in range(ranks)
    ]
    assert len(alone) == steps
    assert all(len(batches) == steps * parts for batches in divided)
    for step in range(steps):
        together = flat(batch for batches in divided for batch in batches[step * parts : (step + 1) * parts])
        assert Counter(together) == Counter(alone[step])
        assert all(len(batches[step * parts + part]) == share for batches in divided for part in range(parts))


@few
@given(st.integers(1, 30), st.integers(0, 8), st.integers(1, 3), st.integers(1, 2))
def test_a_later_start_drops_the_first_steps(size, start, parts, ranks):
    def batches(first):
        return list(
            StepBatches(
                size, 12, range(first, 9), seed=3, accumulation=parts, rank=ranks - 1, world_size=ranks
            )
        )

    assert batches(start) == batches(0)[start * parts :]


def test_a_batch_across_the_seam_holds_the_end_of_one_epoch_and_the_start_of_the_next():
    first, second = StepBatches(10, 7, range(2), seed=1)
    assert [epoch for epoch, _ in first] == [0] * 7
    assert [epoch for epoch, _ in second] == [0] * 3 + [1] * 4
    assert {index for _, index in first} | {index for _, index in second[:3]} == set(range(10))


def test_a_batch_may_span_several_epochs():
    (batch,) = StepBatches(3, 10, range(1), seed=1)
    assert Counter(batch) == Counter(
        [(epoch, index) for epoch in range(3) for index in range(3)] + [(3, batch[-1][1])]
    )


def test_order_depends_on_seed_and_epoch():
    def epochs(seed):
        samples = [index for _, index in flat(StepBatches(50, 50, range(3), seed=seed))]
        return [tuple(samples[start : start + 50]) for start in (0, 50, 100)]

    assert len({*epochs(0), *epochs(1)}) == 6
    assert epochs(0) == epochs(0)
    assert tuple(range(50)) not in epochs(0)


def test_length_is_the_number_of_batches():
    batches = StepBatches(10, 6, range(2, 7), seed=0, accumulation=3)
    assert len(batches) == len(list(batches)) == 15


def test_choice_covers_all_layouts_evenly_and_repeats():
    drawn = [choice(3, 5, step) for step in range(300)]
    assert drawn == [choice(3, 5, step) for step in range(300)]
    assert drawn != [choice(3, 6, step) for step in range(300)]
    counted = Counter(drawn)
    assert set(counted) == {0, 1, 2} and min(counted.values()) > 70  # 100 each expected, deviation 8
    assert choice(1, 5, 7) == 0


def test_subset_is_sorted_distinct_and_covers_all_blocks():
    drawn = [subset(6, 2, 5, step) for step in range(200)]
    assert drawn == [subset(6, 2, 5, step) for step in range(200)]
    assert drawn != [subset(6, 2, 6, step) for step in range(200)]
    assert all(len(blocks) == 2 and blocks[0] < blocks[1] for blocks in drawn)
    assert len(set(drawn)) == 15  # every pair of six blocks


def test_subset_takes_all_blocks_when_it_may():
    assert subset(4, None, 0, 0) == subset(4, 4, 0, 1) == subset(4, 9, 0, 2) == (0, 1, 2, 3)
    assert subset(1, 1, 0, 0) == (0,)


def test_layout_and_blocks_are_drawn_apart():
    """Two purposes of one (seed, step) do not move together."""
    pairs = {(choice(2, 0, step), subset(2, 1, 0, step)) for step in range(60)}
    assert len(pairs) == 4
