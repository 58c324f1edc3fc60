"""Callbacks as in diffusers: they end a generation or its guidance, and may return nothing."""

import pytest
import torch
from diffusers.callbacks import (
    IPAdapterScaleCutoffCallback,
    MultiPipelineCallbacks,
    SD3CFGCutoffCallback,
    SDCFGCutoffCallback,
    SDXLCFGCutoffCallback,
    SDXLControlnetCFGCutoffCallback,
)

from acdit.utils.errors import UserError
from tests.pipelines.small import build_text, latents_of, picture, seeded
from tests.pipelines.test_video import build as build_video


def interrupt_after(last):
    """A callback that ends the generation after a step."""

    def call(pipeline, step, timestep, tensors):
        pipeline._interrupt = step == last
        return tensors

    return call


def quadrant(images, block):
    row, column = divmod(block, 2)
    return images[..., 4 * row : 4 * row + 4, 4 * column : 4 * column + 4]


def evaluations(pipeline, run):
    calls = []
    handle = pipeline.transformer.register_forward_hook(lambda *_: calls.append(1))
    try:
        return run(), len(calls)
    finally:
        handle.remove()


@pytest.mark.parametrize("last", [0, 2, 4, 11])
def test_an_interrupted_call_returns_what_exists(pipe, last):
    steps = []

    def look(pipeline, step, timestep, tensors):
        steps.append(tensors["latents"].clone())
        return tensors

    whole = latents_of(pipe, [0, 1], generator=seeded(1, 2), callback_on_step_end=look)
    made, calls = evaluations(
        pipe,
        lambda: latents_of(pipe, [0, 1], generator=seeded(1, 2), callback_on_step_end=interrupt_after(last)),
    )
    assert calls == last + 1 and pipe.interrupt
    for block in range(4):
        done = quadrant(made, block)
        if block < last // 3:
            assert torch.equal(done, quadrant(whole, block))
        elif block == last // 3:
            assert torch.equal(done, quadrant(steps[last], block))
        else:
            assert not done.any()
    assert torch.equal(latents_of(pipe, [0, 1], generator=seeded(1, 2)), whole) and not pipe.interrupt


def test_interruptions_keep_what_is_continued(pipe):
    arguments = {"image": picture(3), "keep_blocks": 2, "callback_on_step_end": interrupt_after(0)}
    made = pipe(0, **arguments, output_type="latent")
    kept = pipe(0, image=picture(3), keep_blocks=2, output_type="latent").images
    assert made.evaluations == 1
    assert all(torch.equal(quadrant(made.images, block), quadrant(kept, block)) for block in (0, 1))


def test_a_stream_ends_when_it_is_interrupted(pipe):
    pieces = []
    for piece in pipe.stream(0, generator=seeded(1)):
        pieces.append(piece)
        pipe._interrupt = piece.block == 1
    assert [piece.block for piece in pieces] == [0, 1]


def test_video_is_interrupted_too():
    video = build_video()
    whole = video(1, generator=seeded(3), output_type="latent").frames
    made = video(1, generator=seeded(3), output_type="latent", callback_on_step_end=interrupt_after(1))
    assert made.evaluations == 2 and made.frames.shape == whole.shape
    assert torch.equal(made.frames[:, :, :2], whole[:, :, :2]) and not made.frames[:, :, 2:].any()
    frames = []
    for piece in video.stream(1, generator=seeded(3), output_type="latent"):
        frames.append(piece.frames)
        video._interrupt = True
    assert len(frames) == 1 and torch.equal(frames[0], whole[:, :, :2])


@pytest.fixture(scope="module")
def writer():
    return build_text()


@pytest.mark.parametrize("last", [0, 3, 5])
def test_an_interrupted_text_ends_before_its_first_mask(writer, last):
    (whole,) = writer("ab", generator=seeded(0), output_type="tokens").texts
    output = writer(
        "ab", generator=seeded(0), output_type="tokens", callback_on_step_end=interrupt_after(last)
    )
    (made,) = output.texts
    assert output.evaluations == last + 1
    assert 2 <= len(made) < 10 and torch.equal(made, whole[: len(made)])
    assert writer.num_timesteps == 16 and not writer.do_classifier_free_guidance
    pieces = []
    for piece in writer.stream("ab", generator=seeded(0)):
        pieces.append(piece)
        writer._interrupt = True
    assert len(pieces) == 1


def test_the_state_of_the_loop_is_visible(pipe):
    seen = []

    def look(pipeline, step, timestep, tensors):
        assert pipeline.current_timestep is timestep
        seen.append((pipeline.num_timesteps, pipeline.guidance_scale, pipeline.do_classifier_free_guidance))
        return tensors

    pipe(0, guidance_scale=2.0, num_inference_steps=[4, 3, 2, 1], callback_on_step_end=look)
    assert set(seen) == {(10, 2.0, True)} and len(seen) == 10
    pipe(None, callback_on_step_end=look)
    assert seen[-1] == (12, 1.5, False) and pipe.current_timestep is None


@pytest.mark.parametrize("make", [SDCFGCutoffCallback, SDXLCFGCutoffCallback, SD3CFGCutoffCallback])
def test_official_callbacks_end_the_guidance(pipe, make):
    """After its steps with guidance the generation is that of a callback by hand."""

    def by_hand(pipeline, step, timestep, tensors):
        if step == 6:
            pipeline._guidance_scale = 1.0
        return tensors

    arguments = {"class_labels": [1, 2], "guidance_scale": 3.0}
    official = make(cutoff_step_ratio=0.5)
    views = []
    handle = pipe.transformer.register_forward_pre_hook(lambda _, inputs: views.append(inputs[0].shape[1]))
    made = latents_of(pipe, **arguments, generator=seeded(1, 2), callback_on_step_end=official)
    handle.remove()
    assert views == [2] * 7 + [1] * 5
    expected = latents_of(pipe, **arguments, generator=seeded(1, 2), callback_on_step_end=by_hand)
    assert torch.equal(made, expected)
    several = MultiPipelineCallbacks([make(cutoff_step_ratio=None, cutoff_step_index=6)])
    assert torch.equal(
        latents_of(pipe, **arguments, generator=seeded(1, 2), callback_on_step_end=several), expected
    )
    guided = latents_of(pipe, **arguments, generator=seeded(1, 2))
    assert torch.equal(quadrant(made, 1), quadrant(guided, 1))
    assert not torch.equal(quadrant(made, 2), quadrant(guided, 2))


def test_a_live_scale_acts_from_the_next_step(pipe):
    def call(pipeline, step, timestep, tensors):
        pipeline._guidance_scale = 4.0

    changed = latents_of(pipe, 1, guidance_scale=1.0, generator=seeded(1), callback_on_step_end=call)
    plain = latents_of(pipe, 1, guidance_scale=1.0, generator=seeded(1))
    assert not torch.equal(changed, plain)


def test_official_callbacks_that_cannot_apply_say_so(pipe, writer):
    with pytest.raises(UserError, match="image"):
        pipe(0, callback_on_step_end=SDXLControlnetCFGCutoffCallback(cutoff_step_ratio=0.5))
    with pytest.raises(UserError, match="prompt_embeds"):
        writer("a", callback_on_step_end=SDCFGCutoffCallback(cutoff_step_ratio=0.5))
    with pytest.raises(AttributeError, match="set_ip_adapter_scale"):
        pipe(0, callback_on_step_end=IPAdapterScaleCutoffCallback(cutoff_step_ratio=0.5))


def test_a_callback_may_return_nothing(pipe, writer):
    plain = latents_of(pipe, 0, generator=seeded(1))
    assert torch.equal(latents_of(pipe, 0, generator=seeded(1), callback_on_step_end=lambda *_: None), plain)
    assert writer("a", generator=seeded(1), callback_on_step_end=lambda *_: None) == writer(
        "a", generator=seeded(1)
    )
    for pipeline, arguments in ((pipe, [0]), (writer, ["a"])):
        with pytest.raises(UserError, match="must return a dictionary"):
            pipeline(*arguments, callback_on_step_end=lambda *_: [1])
        with pytest.raises(UserError, match="must be a function"):
            pipeline(*arguments, callback_on_step_end=3)
