"""Classes that change from block to block, and videos without end."""

import gc
import itertools
import math

import pytest
import torch

from acdit.utils.errors import UserError
from tests.pipelines.small import NAMES, build, latents_of, network, picture, seeded
from tests.pipelines.test_video import GRID
from tests.pipelines.test_video import build as build_video
from tests.processes import on_ranks
from tests.tiny import tiny_model

SIX = {"num_frames": 12, "output_type": "latent"}  # six blocks of two frames


@pytest.fixture(scope="module")
def video():
    return build_video()


def frames_of(pieces):
    return torch.cat([piece.frames for piece in pieces], 2)


@pytest.mark.parametrize("scale", [1.0, 2.5])
@pytest.mark.parametrize("label", [2, "ant", None])
def test_equal_labels_are_the_label(video, pipe, scale, label):
    given = {"guidance_scale": scale, **SIX}
    plain = video(label, 2, generator=seeded(3, 4), **given)
    by_block = video(itertools.repeat(label), 2, generator=seeded(3, 4), **given)
    assert torch.equal(by_block.frames, plain.frames) and by_block.evaluations == plain.evaluations
    pieces = list(video.stream(itertools.repeat(label), 2, generator=seeded(3, 4), **given))
    assert torch.equal(frames_of(pieces), plain.frames)
    image = latents_of(pipe, label, 2, generator=seeded(3, 4), guidance_scale=scale)
    again = latents_of(pipe, iter([[label, label]] * 4), 2, generator=seeded(3, 4), guidance_scale=scale)
    assert torch.equal(image, again)


@pytest.mark.parametrize("change", [1, 4])
def test_a_change_acts_on_the_blocks_after_it_alone(video, change):
    """The blocks before it are those of the first class, the others those that continue them with another."""
    plain = video(0, generator=seeded(3), **SIX).frames
    labels = [0] * change + [2] * (6 - change)
    changed = frames_of(video.stream(iter(labels), generator=seeded(3), **SIX))
    assert torch.equal(changed[:, :, : 2 * change], plain[:, :, : 2 * change])
    assert (changed[:, :, 2 * change :] - plain[:, :, 2 * change :]).abs().amax((0, 1, 3, 4)).min() > 1e-3
    given = {"window": 5, "guidance_scale": 1.5}  # no block is evicted, so that both see the same past
    free = build_video(pixel_range=(-40.0, 40.0))  # no pixel is cut off on the way to the prefix
    changed = free(iter(labels), generator=seeded(3), **given, **(SIX | {"output_type": "pt"})).frames
    assert changed.min() > 0 and changed.max() < 1
    continued = free(
        2, generator=seeded(3), prefix=changed[:, : 2 * change], **given, **(SIX | {"output_type": "pt"})
    ).frames
    torch.testing.assert_close(continued, changed, rtol=1e-4, atol=1e-5)


def test_each_sample_has_its_own_labels(video):
    """Lists by sample, names, and null labels, against each sample alone."""
    rows = [["ant", 2], [1, None], [None, None], 1, [2, 0], None]
    together = frames_of(video.stream(iter(rows), 2, generator=seeded(3, 4), **SIX))
    for row in range(2):
        alone = [each[row] if isinstance(each, list) else each for each in rows]
        single = video(iter(alone), generator=seeded(3 + row), **SIX).frames
        torch.testing.assert_close(together[row : row + 1], single, rtol=1e-4, atol=1e-4)
    named = [[NAMES.get(label, label) for label in each] if isinstance(each, list) else each for each in rows]
    assert torch.equal(frames_of(video.stream(iter(named), 2, generator=seeded(3, 4), **SIX)), together)


@pytest.mark.parametrize("prefix", [None, torch.rand(4, 1, 8, 8)])
def test_labels_are_read_just_before_their_block(video, prefix):
    """Blocks of the prefix have none, and a stream that is interrupted reads no more."""
    read = []

    def labels():
        for label in itertools.cycle([0, 1, 2]):
            read.append(label)
            yield label

    pieces = video.stream(labels(), prefix=prefix, **SIX)
    assert read == []
    for count in (1, 2, 3):
        next(pieces)
        assert len(read) == count
    video._interrupt = True
    assert list(pieces) == [] and len(read) == 3
    two = video.stream(labels(), block=(2, 2, 4), **SIX)  # two blocks of the same frames
    next(two)
    assert len(read) == 5


def test_a_callback_sees_the_labels_of_its_block(video):
    seen = []
    video(
        iter([0, [2], None, "bee", 1, 0]),
        callback_on_step_end=lambda pipeline, step, timestep, tensors: seen.append(
            tensors["prompt_embeds"].tolist()
        ),
        callback_on_step_end_tensor_inputs=["prompt_embeds"],
        **SIX,
    )
    assert seen[::2] == [[[0]], [[2]], [[-1]], [[1]], [[1]], [[0]]]


def test_images_of_several_classes(pipe):
    kept = picture(3)
    given = {"image": kept, "keep_blocks": 1}
    plain = latents_of(pipe, 1, **given, generator=seeded(3))
    *_, last = pipe.stream(iter([1, 1, 0]), output_type="latent", **given, generator=seeded(3))
    assert torch.equal(last.images[..., :4, :], plain[..., :4, :])
    assert torch.equal(last.images[..., 4:, :4], plain[..., 4:, :4])
    assert (last.images[..., 4:, 4:] - plain[..., 4:, 4:]).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ([0, 1, 2], "class_labels ended before block 3"),
        ([], "class_labels ended before block 0"),
        ([0, 1, 2, 3], r"block 3: class_labels must be classes of the model, 0\.\.2, .* not 3"),
        ([0, "cat"], "block 1: class_labels must be classes of the model, .* not 'cat'"),
        ([0, [0, 1]], r"block 1: class_labels must be one label or 1 \(one per sample\), not 2"),
        ([0, []], "block 1: class_labels is empty"),
    ],
)
def test_bad_labels_are_named_with_their_block(video, labels, words):
    with pytest.raises(UserError, match=words) as caught:
        list(video.stream(iter(labels), **SIX))
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match=words):
        video(iter(labels), **SIX)


def test_models_without_classes_or_with_a_past_that_has_some(video):
    unconditional = build_video(classes=None)
    plain = unconditional(generator=seeded(3), **SIX).frames
    assert torch.equal(unconditional(itertools.repeat(None), generator=seeded(3), **SIX).frames, plain)
    with pytest.raises(UserError, match=r"block 0: .*the model is unconditional"):
        unconditional(iter([1]), **SIX)
    noised = build(network(4, context="noised", prediction_type="flow_prediction"))
    with pytest.raises(UserError, match="the class cannot change from block to block"):
        noised.stream(iter([1]))


@pytest.mark.parametrize("block", [(2, 4, 4), (1, 2, 4)])
def test_a_video_without_end_begins_as_a_long_one(video, block):
    given = {"block": block, "output_type": "latent", "sinks": 0}
    finite = frames_of(video.stream([1, 0], num_frames=14, generator=seeded(3, 4), **given))
    pieces = video.stream([1, 0], num_frames=math.inf, generator=seeded(3, 4), **given)
    assert torch.equal(frames_of(itertools.islice(pieces, 14 // block[0])), finite)
    pieces.close()
    clip = torch.rand(4, 1, 8, 8)
    given = {"prefix": clip, "output_type": "latent", "sinks": 1}
    finite = frames_of(video.stream(1, num_frames=14, generator=seeded(3), **given))
    endless = video.stream(1, num_frames=math.inf, generator=seeded(3), **given)
    assert torch.equal(frames_of(itertools.islice(endless, 5)), finite)


def test_a_video_without_end_keeps_nothing():
    """Neither cache, tensors nor their bytes grow, while the class and the guidance change on the way."""
    on_ranks(check_that_a_video_without_end_keeps_nothing, 1)  # where no other test has left tensors


def check_that_a_video_without_end_keeps_nothing() -> None:
    """Count the tensors of the process at three moments of a video, and compare them."""
    video = build_video(num_inference_steps=1)

    def call(pipeline, step, timestep, tensors):
        pipeline._guidance_scale = 1.0 + step % 3
        assert not tensors and pipeline.num_timesteps > 10**9

    pieces = video.stream(
        itertools.cycle([0, 1, 2, None]),
        num_frames=math.inf,
        generator=seeded(3),
        output_type="latent",
        callback_on_step_end=call,
        callback_on_step_end_tensor_inputs=[],
    )

    def held():
        gc.collect()
        tensors = [each for each in gc.get_objects() if issubclass(type(each), torch.Tensor)]
        return len(tensors), sum(each.nbytes for each in tensors)

    sizes, caches, piece = [], set(), next(pieces)
    for index, piece in enumerate(pieces, start=1):
        caches.add(piece.cache_bytes)
        if index in (119, 239, 359):
            sizes.append(held())
        if index == 359:
            break
    pieces.close()
    assert len(caches) == 1 and len(set(sizes)) == 1
    assert piece.evaluations == 360 and piece.frames.shape == (1, 1, 2, 8, 8)


def test_a_video_without_end_has_a_progress_bar(video, capsys):
    shown = build_video()
    shown.set_progress_bar_config(disable=False)
    pieces = shown.stream(1, num_frames=math.inf)
    for _ in range(3):
        next(pieces)
    pieces.close()
    assert "6it" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"latents": torch.zeros(1, 1, 6, 8, 8)}, "latents hold the noise of a number of frames"),
        ({"guidance_rising": True}, "guidance_rising rises up to the last block"),
        ({"num_inference_steps": [1, 2]}, "num_inference_steps as a list"),
        ({"callback_on_step_end": lambda *_: None}, "cannot receive the latents of a video without end"),
        ({"prefix": torch.zeros(3, 1, 8, 8)}, "prefix must have a multiple of 2"),
        ({"num_frames": math.nan}, "num_frames must be a multiple of 2"),
        ({"num_frames": -math.inf}, "num_frames must be a multiple of 2"),
    ],
)
def test_what_a_video_without_end_cannot_have(video, arguments, words):
    with pytest.raises(UserError, match=words):
        video.stream(1, **({"num_frames": math.inf} | arguments))


def test_a_call_has_an_end(video):
    with pytest.raises(UserError, match=r"num_frames=math\.inf is for stream"):
        video(1, num_frames=math.inf)


def test_the_grid_of_a_network_does_not_bound_a_video():
    """Positions are computed for the blocks at hand, by every kind of positions that videos may have."""
    for positions in ("rope_nd", "rope_1d", "none"):
        model = tiny_model(in_channels=4, axis_lengths=GRID, num_classes=3, positions=positions)
        video = build_video()
        video.transformer = model
        pieces = video.stream(1, num_frames=math.inf, generator=seeded(3), output_type="latent")
        finite = frames_of(video.stream(1, num_frames=20, generator=seeded(3), output_type="latent"))
        assert torch.equal(frames_of(itertools.islice(pieces, 10)), finite)
