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

from acdit.diffusion.generate import FrameNoise
from acdit.utils.errors import UserError
from tests.pipelines.small import build_text, latents_of, picture, quadrant, seeded
from tests.pipelines.test_video import build as build_video


def interrupt_after(last):
    """A callback that ends the generation after a step."""

    def call(pipeline, step, timestep, tensors):
        pipeline._interrupt = step == last
        return tensors

    return call


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


def test_a_stream_goes_on_after_other_calls(pipe):
    """Each generation has a state of its own, also if another one begins between two pieces of a stream."""

    def begun():
        return pipe.stream(0, guidance_scale=6.0, generator=seeded(1), output_type="pt")

    whole, stream = [piece.images for piece in begun()], begun()
    pieces = [next(stream)]
    pipe(1, guidance_scale=1.0, callback_on_step_end=interrupt_after(0))
    assert pipe.interrupt and pipe.guidance_scale == 1.0
    pieces += [next(stream)]
    assert not pipe.interrupt and pipe.guidance_scale == 6.0
    pipe._interrupt = True  # of the stream, and not of the call before its next piece
    other = pipe(0, guidance_scale=6.0, generator=seeded(1), output_type="pt").images
    pieces += list(stream)
    assert len(pieces) == 2 and torch.equal(other, whole[-1])
    assert all(torch.equal(piece.images, expected) for piece, expected in zip(pieces, whole[:2], strict=True))


def test_texts_go_on_after_other_calls(writer):
    whole, stream = list(writer.stream(generator=seeded(1))), writer.stream(generator=seeded(1))
    pieces = [next(stream)]
    writer(generator=seeded(2), callback_on_step_end=interrupt_after(0))
    assert writer.interrupt and writer.current_timestep is None
    assert [*pieces, *stream] == whole and len(whole) > 1


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


def changing(record, last=None):
    """A callback that changes every second step and the guidance on the way, and may interrupt."""

    def call(pipeline, step, timestep, tensors):
        record.append((step, float(timestep), {name: value.clone() for name, value in tensors.items()}))
        pipeline._guidance_scale = 2.0 + step / 10
        pipeline._interrupt = step == last
        return {"latents": tensors["latents"] * 1.1} if step % 2 and "latents" in tensors else None

    return call


def alike(first, second):
    """Whether two callbacks received the same, bit for bit."""
    return len(first) == len(second) and all(
        one[:2] == other[:2]
        and one[2].keys() == other[2].keys()
        and all(torch.equal(value, other[2][name]) for name, value in one[2].items())
        for one, other in zip(first, second, strict=True)
    )


@pytest.mark.parametrize("last", [None, 0, 4, 5, 11])
@pytest.mark.parametrize("inputs", [["latents"], ["latents", "prompt_embeds"], ["prompt_embeds"], []])
def test_a_stream_of_images_with_a_callback_is_the_call(pipe, last, inputs):
    called, streamed = [], []
    given = {"image": picture(3), "keep_blocks": 1, "num_inference_steps": 4, "output_type": "pt"}
    given |= {"callback_on_step_end_tensor_inputs": inputs}
    whole = pipe([0, 1], generator=seeded(1, 2), callback_on_step_end=changing(called, last), **given)
    ended = pipe.interrupt
    *_, piece = pipe.stream(
        [0, 1], generator=seeded(1, 2), callback_on_step_end=changing(streamed, last), **given
    )
    assert alike(called, streamed) and len(called) == (12 if last is None else last + 1)
    assert torch.equal(piece.images, whole.images) and piece.evaluations == whole.evaluations
    assert piece.complete == (last not in (0, 4, 5)) and ended == (last is not None)
    plain = pipe([0, 1], generator=seeded(1, 2), **(given | {"callback_on_step_end_tensor_inputs": []}))
    assert not torch.equal(plain.images, whole.images)


@pytest.mark.parametrize("block", [(2, 4, 4), (2, 2, 4)])
@pytest.mark.parametrize("last", [None, 0, 2, 3, 4, 5])
def test_a_stream_of_video_with_a_callback_is_the_call(block, last):
    """An interrupted stream ends with the frames that were begun, as the call shows them."""
    video, called, streamed = build_video(), [], []
    given = {"output_type": "latent", "block": block, "num_frames": 8}
    whole = video([1, 0], generator=seeded(3, 4), callback_on_step_end=changing(called, last), **given)
    pieces = list(
        video.stream([1, 0], generator=seeded(3, 4), callback_on_step_end=changing(streamed, last), **given)
    )
    assert alike(called, streamed)
    frames = torch.cat([piece.frames for piece in pieces], 2)
    assert torch.equal(frames, whole.frames[:, :, : frames.shape[2]])
    assert not whole.frames[:, :, frames.shape[2] :].any()
    of_frames = 2 * 4 // block[1]  # steps of the blocks of the same frames
    steps = 4 * of_frames if last is None else last + 1
    assert pieces[-1].evaluations == steps == len(called)
    assert all(piece.complete for piece in pieces[:-1])
    assert pieces[-1].complete == (steps % of_frames == 0) and len(pieces) == -(-steps // of_frames)


def test_a_callback_of_a_stream_is_checked_at_once(pipe):
    for pipeline in (pipe, build_video()):
        with pytest.raises(UserError, match="must be a function"):
            pipeline.stream(0, callback_on_step_end=3)
        with pytest.raises(UserError, match=r"may only hold latents, .*, not tokens"):
            pipeline.stream(
                0, callback_on_step_end=lambda *_: None, callback_on_step_end_tensor_inputs=["tokens"]
            )


def test_a_callback_that_reads_no_latents_keeps_none(pipe):
    """The noise of a video is drawn block by block, not for the whole length in advance."""
    video, drawn = build_video(), []
    original = FrameNoise.__call__

    def call(self, block):
        drawn.append(block)
        return original(self, block)

    given = {"num_frames": 12, "callback_on_step_end": lambda *_: None}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FrameNoise, "__call__", call)
        next(video.stream(1, **given, callback_on_step_end_tensor_inputs=[]))
        assert set(drawn) == {0}
        next(video.stream(1, **given))
        assert set(drawn) == set(range(6))


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


def test_given_blocks_of_text_are_no_steps(writer):
    """A block of four tokens takes up to four steps; of five given tokens, one is in the second block."""
    assert writer.default_steps(writer.layout) == [4] * 4
    steps = []
    writer(
        "abcde",
        max_new_tokens=6,
        generator=seeded(0),
        callback_on_step_end=lambda pipe, step, *_: steps.append(step),
    )
    assert writer.num_timesteps == 8 and steps == list(range(7))  # one of the second block is given


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
