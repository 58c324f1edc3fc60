"""ACDiTImagePipeline: what a call takes and gives, in diffusers' manner, block by block."""

from typing import Any

import numpy as np
import pytest
import torch
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler

from acdit.diffusion.schedulers import default_sampler
from acdit.model.transformer import ACDiTTransformer
from acdit.pipelines.image import ACDiTImagePipeline
from acdit.utils.errors import UserError
from tests.pipelines.small import build, latents_of, network, picture, quadrant, quiet, seeded
from tests.tiny import relative_error


def test_labels_by_id_and_by_name(pipe):
    by_id = latents_of(pipe, [2, 0], generator=seeded(1, 2))
    assert torch.equal(by_id, latents_of(pipe, ["cow", "ant"], generator=seeded(1, 2)))
    assert torch.equal(by_id, latents_of(pipe, ["cow", 0], generator=seeded(1, 2)))
    assert torch.equal(by_id, latents_of(pipe, torch.tensor([2, 0]), generator=seeded(1, 2)))
    other = latents_of(pipe, [2, 1], generator=seeded(1, 2))
    assert relative_error(other[0], by_id[0]) < 1e-5 and relative_error(other[1], by_id[1]) > 1e-2
    assert torch.equal(latents_of(pipe, 1, generator=seeded(3)), latents_of(pipe, "bee", generator=seeded(3)))
    assert by_id.isfinite().all() and 0.1 < float(by_id.std()) < 10


def test_without_labels_one_unconditional_image(pipe):
    made = latents_of(pipe, generator=seeded(3))
    assert made.shape == (1, 3, 8, 8)
    assert relative_error(made, latents_of(pipe, 0, generator=seeded(3))) > 1e-2
    assert torch.equal(made, latents_of(pipe, generator=seeded(3), guidance_scale=4.0))
    assert latents_of(pipe, num_images_per_prompt=3, generator=seeded(3, 4, 5)).shape == (3, 3, 8, 8)


def test_labels_and_none_in_one_call(pipe):
    mixed = latents_of(pipe, [1, None, "bee"], generator=seeded(3, 4, 5), guidance_scale=2.0)
    alone = [
        latents_of(pipe, label, generator=seeded(seed), guidance_scale=2.0)[0]
        for label, seed in ((1, 3), (None, 4), (1, 5))
    ]
    assert relative_error(mixed, torch.stack(alone)) < 1e-5


def test_a_network_without_classes():
    model = network(12, num_classes=None)
    pipeline = build(model, id2label=None)
    made = latents_of(pipeline, generator=seeded(0))
    assert made.std() > 0.1
    assert relative_error(latents_of(pipeline, [None, None], generator=seeded(0, 1))[:1], made) < 1e-5
    with pytest.raises(UserError, match="unconditional"):
        pipeline([None, 0])


def test_num_images_per_prompt_repeats_each_label(pipe):
    repeated = latents_of(pipe, ["bee", "ant"], num_images_per_prompt=2, generator=seeded(1, 2, 3, 4))
    assert torch.equal(repeated, latents_of(pipe, [1, 1, 0, 0], generator=seeded(1, 2, 3, 4)))


def test_a_generator_moves_on_and_torchs_own_serves_without_one(pipe):
    source = torch.Generator().manual_seed(7)
    first, second = (latents_of(pipe, 0, generator=source) for _ in range(2))
    assert relative_error(second, first) > 0.1
    torch.manual_seed(3)
    default = latents_of(pipe, 0)
    torch.manual_seed(3)
    assert torch.equal(default, latents_of(pipe, 0))
    assert not torch.equal(default, latents_of(pipe, 0))


@pytest.mark.parametrize("scheduler", [default_sampler("flow"), DDPMScheduler()], ids=["ODE", "DDPM"])
def test_a_sample_depends_on_its_own_generator_alone(scheduler):
    pipeline = build(network(12), scheduler)
    together = latents_of(pipeline, [0, 1, 2], generator=seeded(1, 2, 3))
    swapped = latents_of(pipeline, [2, 1, 0], generator=seeded(3, 2, 4))
    alone = latents_of(pipeline, [1], generator=seeded(2))
    assert relative_error(alone[0], together[1]) < 1e-5
    assert relative_error(swapped[:2], together[[2, 1]]) < 1e-5
    assert relative_error(swapped[2], together[0]) > 0.1


def test_latents_are_the_noise_to_start_from(pipe):
    drawn = [torch.randn(3, 8, 8, generator=generator) for generator in seeded(1, 2)]
    expected = latents_of(pipe, [0, 1], generator=seeded(1, 2))
    given = latents_of(pipe, [0, 1], latents=torch.stack(drawn), generator=seeded(8, 9))
    assert torch.equal(given, expected)


def test_a_seed_means_the_same_noise_at_every_block_size():
    fresh = ACDiTTransformer(
        in_channels=12, axis_lengths=(4, 4), num_layers=1, hidden_size=16, num_heads=1, num_classes=3
    )
    pipeline = build(fresh)  # which predicts zero, so that what comes out is the noise
    made = [latents_of(pipeline, 0, generator=seeded(1), block=block) for block in ((4, 4), (2, 2), (1, 4))]
    assert made[0].std() > 0.1
    assert torch.equal(made[0], made[1]) and torch.equal(made[0], made[2])


def test_output_types(pixels):
    channels = pixels.data_channels
    made = {
        kind: pixels([0, 1], generator=seeded(1, 2), output_type=kind).images
        for kind in ("latent", "pt", "np", "pil")
    }
    assert made["latent"].shape == made["pt"].shape == (2, channels, 8, 8)
    assert made["np"].shape == (2, 8, 8, channels)
    expected = (made["latent"] / 2 + 0.5).clamp(0, 1)
    assert torch.allclose(made["pt"], expected, atol=1e-6)
    assert np.array_equal(made["np"], made["pt"].permute(0, 2, 3, 1).numpy())
    assert len(made["pil"]) == 2
    for image, array in zip(made["pil"], made["np"], strict=True):
        assert image.size == (8, 8) and image.mode == {1: "L", 3: "RGB"}[channels]
        levels = np.asarray(image).reshape(8, 8, channels)
        assert np.array_equal(levels, (array * 255).round().astype(np.uint8))
        assert len(np.unique(levels)) > 5
    default = pixels([0, 1], generator=seeded(1, 2)).images
    assert [image.tobytes() for image in default] == [image.tobytes() for image in made["pil"]]


def test_return_dict(pipe):
    output = pipe([0], generator=seeded(1), output_type="latent")
    (images,) = pipe([0], generator=seeded(1), output_type="latent", return_dict=False)
    assert torch.equal(images, output.images)


def test_evaluations_and_cache_bytes_are_counted(pipe):
    output = pipe([0, 1], num_inference_steps=[4, 3, 2, 1])
    assert output.evaluations == 10
    # keys and values x layers x samples x tokens of all blocks but the last x hidden x float32
    assert output.cache_bytes == 2 * 2 * 2 * 12 * 32 * 4
    assert pipe(0, block=(4, 4)).cache_bytes == 0


def test_num_inference_steps_one_number_or_a_list(pipe):
    five = latents_of(pipe, 0, num_inference_steps=5, generator=seeded(1))
    assert torch.equal(five, latents_of(pipe, 0, num_inference_steps=[5] * 4, generator=seeded(1)))
    mixed = latents_of(pipe, 0, num_inference_steps=[5, 5, 2, 5], generator=seeded(1))
    for block in (0, 1):
        assert torch.equal(quadrant(mixed, block), quadrant(five, block))
    assert relative_error(quadrant(mixed, 2), quadrant(five, 2)) > 1e-3
    assert pipe(0).evaluations == 4 * 3  # the model's default


def test_another_block_at_call(pipe):
    assert pipe(0, block=(4, 4), num_inference_steps=5).evaluations == 5
    assert pipe(0, block=(1, 2), num_inference_steps=1).evaluations == 8
    assert pipe.layout.block == (2, 2)


def test_height_and_width(pipe):
    made = pipe(0, height=4, width=12, num_inference_steps=2)
    assert made.images[0].size == (12, 4) and made.evaluations == 3 * 2
    assert pipe(0, width=16).images[0].size == (16, 8)


def test_guidance_is_linear_in_its_scale(pipe):
    """In one step of one block the sample is linear in the prediction, and so in the scale."""
    arguments = {"block": (4, 4), "num_inference_steps": 1}
    unconditional = latents_of(pipe, generator=seeded(1), **arguments)
    conditional = latents_of(pipe, 1, guidance_scale=1.0, generator=seeded(1), **arguments)
    assert relative_error(unconditional, conditional) > 1e-2
    for scale in (0.0, 0.5, 2.5):
        guided = latents_of(pipe, 1, guidance_scale=scale, generator=seeded(1), **arguments)
        expected = unconditional + scale * (conditional - unconditional)
        assert relative_error(guided, expected) < 1e-5


def test_guidance_defaults_to_the_models(pipe):
    default = latents_of(pipe, 1, generator=seeded(1))
    assert torch.equal(default, latents_of(pipe, 1, guidance_scale=1.5, generator=seeded(1)))
    assert relative_error(default, latents_of(pipe, 1, guidance_scale=3.0, generator=seeded(1))) > 1e-3


def test_rising_guidance_starts_at_one_and_ends_at_its_scale(pipe):
    rising = latents_of(pipe, 1, guidance_scale=4.0, guidance_rising=True, generator=seeded(1))
    none = latents_of(pipe, 1, guidance_scale=1.0, generator=seeded(1))
    assert relative_error(quadrant(rising, 0), quadrant(none, 0)) < 1e-5
    assert relative_error(quadrant(rising, 1), quadrant(none, 1)) > 1e-3
    image = (rising / 2 + 0.5).clamp(0, 1)
    arguments = {"image": image, "keep_blocks": 3, "generator": seeded(1)}
    last = latents_of(pipe, 1, guidance_scale=4.0, guidance_rising=True, **arguments)
    assert torch.equal(
        last, latents_of(pipe, 1, guidance_scale=4.0, **(arguments | {"generator": seeded(1)}))
    )


def test_a_guidance_interval_is_in_sigma(pipe):
    """Flow: sigma runs from 1 to 0."""
    full = latents_of(pipe, 1, guidance_scale=4.0, generator=seeded(1))
    none = latents_of(pipe, 1, guidance_scale=1.0, generator=seeded(1))

    def within(low, high):
        return latents_of(pipe, 1, guidance_scale=4.0, guidance_interval=(low, high), generator=seeded(1))

    assert torch.equal(within(0.0, 1.0), full)
    assert torch.equal(within(2.0, 3.0), none)
    half = within(0.5, 1.0)
    assert relative_error(half, full) > 1e-3 and relative_error(half, none) > 1e-3


def test_the_callback_sees_every_step_of_all_blocks(pipe):
    seen = []

    def callback(pipeline, step, timestep, tensors):
        assert pipeline is pipe
        seen.append((step, float(timestep), tensors["latents"].clone()))
        return tensors

    final = latents_of(
        pipe, [0, 1], num_inference_steps=[3, 1, 2, 2], generator=seeded(1, 2), callback_on_step_end=callback
    )
    assert [step for step, _, _ in seen] == list(range(8))
    starts = [seen[step][1] for step in (0, 3, 4, 6)]
    assert len(set(starts)) == 1 and starts[0] == max(timestep for _, timestep, _ in seen)
    assert torch.equal(seen[-1][2], final)
    for finished, step in enumerate((2, 3, 5, 7)):
        for block in range(finished + 1):
            assert torch.equal(quadrant(seen[step][2], block), quadrant(final, block))
    assert torch.equal(
        final, latents_of(pipe, [0, 1], num_inference_steps=[3, 1, 2, 2], generator=seeded(1, 2))
    )


def test_the_callback_may_change_latents(pipe):
    def callback(pipeline, step, timestep, tensors):
        return {"latents": torch.full_like(tensors["latents"], 0.25)} if step == 2 else {}

    plain = latents_of(pipe, 0, generator=seeded(1))
    changed = latents_of(pipe, 0, generator=seeded(1), callback_on_step_end=callback)
    assert torch.equal(quadrant(changed, 0), torch.full((1, 3, 4, 4), 0.25))  # the last of its three steps
    assert relative_error(quadrant(changed, 1), quadrant(plain, 1)) > 1e-3  # the next block has seen it


def test_the_callback_gets_what_it_asked_for(pipe):
    seen = []

    def callback(pipeline, step, timestep, tensors):
        seen.append(tensors)
        return {}

    pipe(0, callback_on_step_end=callback, callback_on_step_end_tensor_inputs=[])
    assert seen == [{}] * 12


@pytest.mark.parametrize(
    "counts",
    [
        {"keep_blocks": 2, "window": 1, "num_inference_steps": 2},
        {"num_inference_steps": 2, "timesteps": (900, 400)},
        {"num_images_per_prompt": 2},
        {"block": (2, 4), "height": 8},
    ],
)
def test_integers_of_numpy_are_integers(counts):
    pipeline = build(network(12), DDPMScheduler())

    def drawn(number):
        given = {
            name: tuple(map(number, value)) if isinstance(value, tuple) else number(value)
            for name, value in counts.items()
        }
        image = {"image": picture(3)} if "keep_blocks" in counts else {}
        sources = seeded(*range(counts.get("num_images_per_prompt", 1)))
        return latents_of(pipeline, 0, **image, **given, generator=sources)

    assert torch.equal(drawn(np.int64), drawn(int))


@pytest.mark.parametrize("keep", [0, 1])
@pytest.mark.parametrize("output_type", ["pt", "latent"])
def test_a_stream_shows_the_images_after_every_block(pixels, latent_pipe, keep, output_type):
    for pipeline in (pixels, latent_pipe):
        given: dict[str, Any] = {"generator": seeded(3, 4), "output_type": output_type, "guidance_scale": 2.0}
        channels = pipeline.pixel_channels
        given |= {"image": picture(channels), "keep_blocks": keep} if keep else {}
        whole = pipeline([2, None], **given)
        given["generator"] = seeded(3, 4)
        pieces = list(pipeline.stream([2, None], **given))
        assert [piece.block for piece in pieces] == list(range(keep, 4))
        assert torch.equal(pieces[-1].images, whole.images)
        assert pieces[-1].evaluations == whole.evaluations and pieces[-1].cache_bytes == whole.cache_bytes
        if pipeline.vae is None:
            for piece in pieces:
                for block in range(4):
                    shown, expected = quadrant(piece.images, block), quadrant(whole.images, block)
                    empty = torch.full_like(expected, 0.0 if output_type == "latent" else 0.5)
                    assert torch.equal(shown, expected if block <= piece.block else empty)


def test_what_later_blocks_see_of_the_past(pipe):
    """A window leaves out blocks, and noise acts on what later blocks see, not on what is drawn."""
    plain = latents_of(pipe, 1, generator=seeded(1))
    assert relative_error(latents_of(pipe, 1, generator=seeded(1), window=3), plain) < 1e-5
    short = latents_of(pipe, 1, generator=seeded(1), window=1)
    noised = latents_of(pipe, 1, generator=seeded(1), context_noise=0.5)
    for block in range(4):
        expected = quadrant(plain, block)
        changed = relative_error(quadrant(short, block), expected)
        assert changed < 1e-5 if block < 2 else changed > 1e-3
        changed = relative_error(quadrant(noised, block), expected)
        assert changed < 1e-5 if block == 0 else changed > 1e-3
    *_, last = pipe.stream(1, generator=seeded(1), window=1, output_type="latent")
    assert torch.equal(last.images, short)


def test_a_stream_is_checked_at_once(pipe):
    with pytest.raises(UserError, match="num_images_per_prompt"):
        pipe.stream(1, 0)
    with pytest.raises(TypeError, match="windows"):
        pipe.stream(1, windows=3)


def test_the_layout_must_be_given_or_taken_over(pipe):
    """Components hold no layout: without one, another layout would silently be assumed."""
    with pytest.raises(UserError, match=r"needs grid, block, patch; ACDiTImagePipeline\.from_pipe"):
        ACDiTImagePipeline(**pipe.components)
    other = quiet(ACDiTImagePipeline.from_pipe(pipe))
    assert (other.layout, other.label_names) == (pipe.layout, pipe.label_names)
    assert torch.equal(latents_of(other, 2, generator=seeded(1)), latents_of(pipe, 2, generator=seeded(1)))
