"""ACDiTVideoPipeline: clips, continuations, streams and lengths, against each other and a loop of blocks."""

import numpy as np
import pytest
import torch
from accelerate import cpu_offload_with_hook
from PIL import Image

from acdit import load_pipeline
from acdit.data.autoencoders import decode, encode
from acdit.diffusion.generate import FrameNoise, Guidance, generate
from acdit.diffusion.schedulers import default_sampler
from acdit.model.layout import Layout
from acdit.pipelines.video import ACDiTVideoPipeline
from acdit.utils.errors import UserError
from tests.pipelines.small import NAMES, quiet, seeded, small_autoencoder
from tests.tiny import tiny_model

GRID, BLOCK, PATCH = (6, 4, 4), (2, 4, 4), (1, 2, 2)
LAYOUT = Layout(GRID, BLOCK, PATCH)


def build(channels=1, vae=None, classes: int | None = 3, **arguments):
    patch = (1, 1, 1) if vae else PATCH
    elements = 1 if vae else 4
    network = tiny_model(in_channels=channels * elements, axis_lengths=GRID, num_classes=classes)
    defaults = {"grid": GRID, "block": BLOCK, "patch": patch, "id2label": NAMES, "num_inference_steps": 2}
    return quiet(ACDiTVideoPipeline(network, default_sampler("flow"), vae, **(defaults | arguments)))


@pytest.fixture(scope="module")
def pipe():
    return build()


def test_a_clip_is_what_generate_draws(pipe):
    made = pipe([1, "ant"], generator=seeded(3, 4), output_type="pt")
    assert made.frames.shape == (2, 6, 1, 8, 8) and made.evaluations == 6
    seeds = [int(torch.randint(2**63 - 1, (), generator=source)) for source in seeded(3, 4)]
    blocks = generate(
        pipe.transformer,
        LAYOUT,
        FrameNoise(seeds, LAYOUT, 1, torch.device("cpu")),
        scheduler=default_sampler("flow"),
        steps=2,
        labels=torch.tensor([1, 0]),
        guidance=Guidance(2.5),
    )
    drawn = LAYOUT.from_blocks(torch.stack([block.sample for block in blocks], 1))  # (N, C, F, H, W)
    expected = (drawn.transpose(1, 2) / 2 + 0.5).clamp(0, 1)
    torch.testing.assert_close(made.frames, expected)
    assert expected.std() > 0.05 and (expected[0] - expected[1]).abs().max() > 0.1


def test_output_types(pipe):
    tensor = pipe(1, generator=seeded(3), output_type="pt").frames
    array = pipe(1, generator=seeded(3), output_type="np").frames
    pictures = pipe(1, generator=seeded(3)).frames
    latents = pipe(1, generator=seeded(3), output_type="latent", return_dict=False)[0]
    assert array.shape == (1, 6, 8, 8, 1) and latents.shape == (1, 1, 6, 8, 8)
    np.testing.assert_allclose(array, tensor.permute(0, 1, 3, 4, 2).numpy(), atol=1e-6)
    assert len(pictures) == 1 and len(pictures[0]) == 6 and pictures[0][0].size == (8, 8)
    assert np.abs(np.asarray(pictures[0][5], float) / 255 - array[0, 5, :, :, 0]).max() < 0.003
    torch.testing.assert_close((latents.transpose(1, 2) / 2 + 0.5).clamp(0, 1), tensor)


@pytest.mark.parametrize("block", [BLOCK, (2, 2, 4), (1, 4, 4)])
def test_a_longer_video_begins_alike_and_a_stream_is_the_call(pipe, block):
    """Noise is of a frame; and a window of what a block of training sees changes nothing before its end."""
    short = pipe([2, 1], generator=seeded(3, 4), block=block, output_type="pt").frames
    long = pipe([2, 1], generator=seeded(3, 4), block=block, output_type="pt", num_frames=14)
    torch.testing.assert_close(long.frames[:, :6], short)
    pieces = list(pipe.stream([2, 1], generator=seeded(3, 4), block=block, output_type="pt", num_frames=14))
    assert len(pieces) == 14 // block[0] and all(piece.frames.shape[1] == block[0] for piece in pieces)
    torch.testing.assert_close(torch.cat([piece.frames for piece in pieces], 1), long.frames)
    assert (pieces[-1].evaluations, pieces[-1].cache_bytes) == (long.evaluations, long.cache_bytes)
    tokens = Layout(GRID, block, PATCH).num_tokens
    assert long.cache_bytes == 2 * 2 * 2 * 32 * 4 * tokens  # layers, keys and values, samples; as in training


def test_a_clip_is_continued(pipe):
    whole = pipe(1, generator=seeded(3), output_type="np").frames
    frames = [Image.fromarray((255 * frame[..., 0]).round().astype(np.uint8)) for frame in whole[0, :4]]
    exact = pipe(1, generator=seeded(3), output_type="np", prefix=whole[0, :4], guidance_scale=1.0)
    assert exact.frames.shape == whole.shape and exact.evaluations == 2
    np.testing.assert_allclose(exact.frames[:, :4], whole[:, :4], atol=1e-6)
    for form in (
        frames,
        [frames, frames],
        torch.from_numpy(whole[0, :4]).permute(0, 3, 1, 2),
        torch.from_numpy(whole[:, :4]).permute(0, 1, 4, 2, 3),
    ):
        labels = [1, 1]
        made = pipe(labels, generator=seeded(3, 5), output_type="np", prefix=form, guidance_scale=1.0)
        np.testing.assert_allclose(made.frames[0], exact.frames[0], atol=0.05)
        np.testing.assert_allclose(made.frames[1, :4], whole[0, :4], atol=0.003)
        assert np.abs(made.frames[1, 4:] - made.frames[0, 4:]).max() > 0.1
    later = list(pipe.stream(1, generator=seeded(3), output_type="np", prefix=frames, num_frames=8))
    assert [piece.frames.shape[1] for piece in later] == [2, 2]  # the prefix is not said again


def test_every_form_of_a_prefix_is_the_same_clip(pipe):
    levels = np.random.default_rng(0).integers(0, 2, (2, 8, 8), dtype=np.uint8) * 255
    levels[0, 0, 0] = 0  # black is there
    pictures = [Image.fromarray(frame) for frame in levels]
    array = levels[..., None].astype(np.float64) / 255
    nearly = np.where(array == 0, -1e-6, array)  # of a caller's own arithmetic
    palettes = [frame.convert("RGB").quantize(2) for frame in pictures]
    deep = [Image.fromarray(frame.astype(np.uint16) * 257) for frame in levels]
    for form in (
        pictures,
        tuple(pictures),
        [frame.convert("1") for frame in pictures],
        palettes,
        [pictures[0].convert("RGB"), palettes[1]],
        deep,
        array,
        nearly,
        list(array),
        [torch.from_numpy(array).permute(0, 3, 1, 2)],
        torch.from_numpy(levels > 0)[:, None],
    ):
        made = pipe(1, generator=seeded(3), prefix=form, output_type="np").frames
        np.testing.assert_allclose(made[0, :2], array, atol=1e-6)


def test_a_stream_is_checked_at_once_and_frees_hooks_when_it_is_left(pipe, monkeypatch):
    freed = []
    monkeypatch.setattr(type(pipe), "maybe_free_model_hooks", lambda self: freed.append(self))
    with pytest.raises(UserError, match="num_frames"):
        pipe.stream(1, num_frames=7)
    pieces = pipe.stream(1, num_frames=8)
    next(pieces)
    assert not freed
    pieces.close()
    assert freed == [pipe]


def test_a_network_that_is_elsewhere_until_it_computes(monkeypatch):
    """As diffusers offloads models: what is drawn lies where it computes, here on a device without memory."""
    network = tiny_model(in_channels=4, axis_lengths=GRID, num_classes=None, time_conditioning=False)
    made, new_cache = [], network.new_cache
    monkeypatch.setattr(
        network, "new_cache", lambda *a, **more: made.append(new_cache(*a, **more)) or made[0]
    )
    cpu_offload_with_hook(network, torch.device("meta"))
    noise = torch.zeros(1, LAYOUT.num_blocks, LAYOUT.block_tokens, 4, device="meta")
    blocks = generate(network, LAYOUT, noise, prefix=noise[:, :1], scheduler=default_sampler("flow"), steps=1)
    assert next(blocks).sample.is_meta
    (cache,) = made
    assert cache.num_blocks >= 1 and cache.read(0, 0)[0].is_meta


def test_context_noise_and_sinks_act(pipe):
    plain = pipe(1, generator=seeded(3), output_type="pt", num_frames=12).frames
    noisy = pipe(1, generator=seeded(3), output_type="pt", num_frames=12, context_noise=0.3).frames
    sunk = pipe(1, generator=seeded(3), output_type="pt", num_frames=12, window=1, sinks=1).frames
    torch.testing.assert_close(noisy[:, :2], plain[:, :2])
    torch.testing.assert_close(sunk[:, :6], plain[:, :6])
    assert (noisy[:, 2:] - plain[:, 2:]).abs().max() > 0.01
    assert (sunk[:, 6:] - plain[:, 6:]).abs().max() > 0.01


def test_a_callback_sees_the_whole_video_and_may_change_it(pipe):
    shapes = []

    def call(pipeline, step, timestep, tensors):
        shapes.append((step, tuple(tensors["latents"].shape)))
        return {"latents": torch.zeros_like(tensors["latents"])} if step == 1 else {}

    frames = pipe(1, generator=seeded(3), output_type="latent", callback_on_step_end=call).frames
    assert shapes == [(step, (1, 1, 6, 8, 8)) for step in range(6)]
    assert frames[:, :, :2].abs().max() == 0 and frames[:, :, 2:].abs().min() > 0


def test_latents_of_an_autoencoder_are_those_of_each_frame(tmp_path):
    vae = small_autoencoder()
    pipe = build(4, vae)
    assert pipe.vae_scale_factor == 2
    made = pipe([0, 2], generator=seeded(3, 4), output_type="latent").frames
    assert made.shape == (2, 4, 6, 4, 4)
    pixels = pipe([0, 2], generator=seeded(3, 4), output_type="pt").frames
    for frame in range(6):
        alone = (decode(vae, made[:, :, frame]) / 2 + 0.5).clamp(0, 1)
        torch.testing.assert_close(pixels[:, frame], alone, rtol=1e-4, atol=1e-4)
    mean, spread = encode(vae, pixels.transpose(1, 2) * 2 - 1)
    torch.testing.assert_close(mean[:, :, 3], encode(vae, pixels[:, 3] * 2 - 1)[0], rtol=1e-4, atol=1e-4)
    assert spread.shape == made.shape
    continued = pipe([0, 2], generator=seeded(3, 4), prefix=pixels[:, :2], output_type="latent").frames
    torch.testing.assert_close(continued[:, :, :2], mean[:, :, :2], rtol=1e-3, atol=1e-3)

    pipe.save_pretrained(tmp_path)
    again = quiet(load_pipeline(tmp_path))
    assert isinstance(again, ACDiTVideoPipeline) and again.layout == pipe.layout
    torch.testing.assert_close(again([0, 2], generator=seeded(3, 4), output_type="pt").frames, pixels)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"num_videos_per_prompt": 0}, ["num_videos_per_prompt", "0"]),
        ({"num_frames": 7}, ["num_frames", "multiple of 2", "7"]),
        ({"num_frames": 0}, ["num_frames", "0"]),
        ({"height": 9}, ["height", "9"]),
        ({"block": (2, 3, 3)}, ["block", "2x3x3"]),
        ({"window": 0}, ["window", "0"]),
        ({"sinks": -1}, ["sinks", "-1"]),
        ({"sinks": 1, "block": (2, 2, 4)}, ["sinks", "as long as the grid"]),
        ({"context_noise": -0.1}, ["context_noise", "-0.1"]),
        ({"output_type": "gif"}, ["output_type", "'gif'"]),
        ({"prefix": torch.zeros(3, 1, 8, 8)}, ["prefix", "multiple of 2", "3"]),
        ({"prefix": torch.zeros(6, 1, 8, 8)}, ["prefix", "fewer", "6"]),
        ({"prefix": torch.zeros(2, 1, 8, 10)}, ["prefix", "1x8x8", "1x8x10"]),
        ({"prefix": torch.zeros(2, 3, 8, 8)}, ["prefix", "1x8x8", "3x8x8"]),
        ({"prefix": torch.zeros(3, 2, 1, 8, 8)}, ["prefix", "3"]),
        ({"prefix": np.full((2, 8, 8, 1), 128, np.uint8)}, ["prefix", "0..1", "128"]),
        ({"prefix": torch.zeros(2, 1, 8, 8) - 0.5}, ["prefix", "0..1", "-0.5"]),
        ({"prefix": []}, ["prefix", "PIL images"]),
        ({"prefix": "clip.mp4"}, ["prefix", "PIL images"]),
        ({"prefix": torch.zeros(0, 1, 8, 8)}, ["prefix", "at least one frame"]),
        ({"prefix": torch.zeros(8, 8)}, ["prefix", "4 or 5 axes", "2"]),
        ({"prefix": [torch.zeros(2, 1, 8, 8), torch.zeros(4, 1, 8, 8)]}, ["prefix", "one size"]),
        ({"prefix": [Image.new("L", (8, 8)), Image.new("L", (8, 9))]}, ["prefix", "one size"]),
        ({"prefix": [1, 2]}, ["prefix", "PIL images"]),
        ({"prefix": np.zeros(8)}, ["prefix", "PIL images"]),
        ({"prefix": torch.full((2, 1, 8, 8), torch.nan)}, ["prefix", "0..1", "nan"]),
        ({"latents": torch.zeros(1, 1, 4, 8, 8)}, ["latents", "(1, 1, 6, 8, 8)"]),
        ({"latents": [1]}, ["latents", "(1, 1, 6, 8, 8)", "list"]),
        ({"block": (0, 4, 4)}, ["block", "positive", "(0, 4, 4)"]),
        ({"block": "2x4x4"}, ["block", "positive", "'2x4x4'"]),
        ({"window": 1.5}, ["window", "1.5"]),
        ({"context_noise": float("nan")}, ["context_noise", "nan"]),
        ({"class_labels": [[1, 2]]}, ["class_labels", "[1, 2]"]),
        ({"num_inference_steps": [1, 2]}, ["steps", "3"]),
        ({"class_labels": 9}, ["class_labels", "9"]),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, dict) else "",
)
def test_bad_arguments_are_refused_in_one_line(pipe, arguments, words):
    for ask in (pipe, pipe.stream):  # a stream refuses before its first frame is asked for
        with pytest.raises(ValueError) as caught:
            ask(**arguments)
    assert "\n" not in str(caught.value) and all(word in str(caught.value) for word in words)
    if "prefix" in words:
        assert isinstance(caught.value, UserError)
