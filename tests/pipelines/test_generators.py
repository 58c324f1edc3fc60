"""One generator, several generators, none: diffusers' rule for the draws of all samples."""

import pytest
import torch
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from diffusers.utils.torch_utils import randn_tensor

from acdit.diffusion.schedulers import LINEAR_BETAS
from acdit.pipelines.generators import one_per_sample
from acdit.utils.errors import UserError
from tests.pipelines.small import build, build_text, latents_of, network, picture, seeded
from tests.pipelines.test_video import build as build_video
from tests.tiny import relative_error


@pytest.fixture(scope="module")
def stochastic():
    """A pipeline whose solver draws noise in its steps."""
    scheduler = DDPMScheduler(**LINEAR_BETAS, prediction_type="v_prediction", clip_sample=False)
    return build(network(12), scheduler)


@pytest.fixture(scope="module")
def video():
    return build_video()


@pytest.fixture(scope="module")
def writer():
    return build_text()


def test_one_generator_draws_the_noise_of_all_pictures_as_in_diffusers(pipe):
    (alone,) = seeded(7)
    noise = randn_tensor((4, 3, 8, 8), generator=seeded(7)[0])
    made = latents_of(pipe, [0, 1], num_images_per_prompt=2, generator=alone)
    assert torch.equal(made, latents_of(pipe, [0, 0, 1, 1], latents=noise, generator=seeded(1, 2, 3, 4)))


def test_the_first_picture_of_one_generator_is_that_of_a_list(pipe, stochastic):
    image = {"image": picture(3), "keep_blocks": 2}
    sizes = {"height": 12, "width": 12, "guidance_scale": 1.0}  # 432 values, which 16 divides
    odd = {"height": 4, "width": 6, "block": (2, 1)}  # 72 values: torch draws the last 16 of a tensor anew
    for arguments in ({}, image, {"block": (4, 4)}, sizes, odd):
        one = latents_of(pipe, [0, 1, 2], generator=seeded(0)[0], **arguments)
        several = latents_of(pipe, [0, 1, 2], generator=seeded(0, 1, 2), **arguments)
        assert torch.equal(one[0], several[0])
        assert min(relative_error(one[a], one[b]) for a, b in ((0, 1), (0, 2), (1, 2))) > 0.05
    alone = latents_of(stochastic, 0, generator=seeded(0)[0])
    assert torch.equal(alone, latents_of(stochastic, 0, generator=seeded(0)))


def test_the_steps_of_every_sample_have_draws_of_their_own(stochastic):
    """With equal labels and equal initial noise, only the draws during the steps differ."""
    noise = torch.randn(1, 3, 8, 8, generator=seeded(5)[0]).expand(3, -1, -1, -1)
    made = latents_of(stochastic, [1, 1, 1], latents=noise, generator=seeded(0)[0])
    assert torch.equal(made[0], latents_of(stochastic, 1, latents=noise[:1], generator=seeded(0))[0])
    assert relative_error(made[1], made[0]) > 0.05 and relative_error(made[2], made[1]) > 0.05
    fewer = latents_of(stochastic, [1, 1], latents=noise[:2], generator=seeded(0)[0])
    assert relative_error(fewer, made[:2]) < 1e-5


def test_a_second_call_with_the_same_generator_gives_other_samples(pipe, stochastic, video, writer):
    (source,) = seeded(0)
    calls = [
        lambda: latents_of(pipe, [0, 0], generator=source),
        lambda: latents_of(stochastic, [0, 0], generator=source),
        lambda: video([1, 1], generator=source, output_type="latent").frames,
    ]
    for call in calls:
        made = [*call(), *call()]
        for place, sample in enumerate(made):
            assert all(relative_error(other, sample) > 0.05 for other in made[:place])
    (source,) = seeded(0)  # of which each text draws eight numbers of 64 bits
    arguments = {"num_samples_per_prompt": 12, "max_new_tokens": 3, "output_type": "tokens"}
    drawn = [writer("a", **arguments, generator=source).texts for _ in range(3)]
    texts = [tuple(row.tolist()) for rows in drawn for row in rows]
    assert len(set(texts)) == 36


@pytest.mark.parametrize("arguments", [{}, {"context_noise": 0.3}, {"num_frames": 10}], ids=str)
def test_the_first_clip_of_one_generator_is_that_of_a_list(video, arguments):
    one = video([0, 1], generator=seeded(0)[0], output_type="latent", **arguments).frames
    several = video([0, 1], generator=seeded(0, 1), output_type="latent", **arguments).frames
    assert torch.equal(one[0], several[0])
    assert relative_error(one[1], several[1]) > 0.05
    pieces = list(video.stream([0, 1], generator=seeded(0)[0], output_type="latent", **arguments))
    assert torch.equal(torch.cat([piece.frames for piece in pieces], 2), one)


def test_the_first_text_of_one_generator_is_that_of_a_list(writer):
    one = writer("ab", num_samples_per_prompt=3, generator=seeded(0)[0]).texts
    assert one[0] == writer("ab", num_samples_per_prompt=3, generator=seeded(0, 1, 2)).texts[0]
    assert len(set(one)) == 3
    pieces = list(writer.stream("ab", num_samples_per_prompt=3, generator=seeded(0)[0]))
    assert ["ab" + "".join(parts) for parts in zip(*(piece.texts for piece in pieces), strict=True)] == one


def test_generators_stay_on_the_device_of_the_one_that_is_given():
    """Some solvers of diffusers refuse a list of generators of several devices."""
    (source,) = seeded(3)
    state = source.get_state()
    first, *others = one_per_sample(source, 3)
    assert first is source and torch.equal(source.get_state(), state)
    assert len({each.initial_seed() for each in others}) == 2
    assert all(each.device == source.device for each in others)


@pytest.mark.parametrize(
    "generator", [3, [3, 4], [None, None], seeded(1, 2, 3)], ids=["number", "numbers", "none", "too many"]
)
def test_other_generators_are_refused(pipe, generator):
    with pytest.raises(UserError, match=r"generator must be .* a list of 2"):
        pipe([0, 1], generator=generator)
