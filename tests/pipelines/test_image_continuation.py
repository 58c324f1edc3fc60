"""Images that are continued: their first blocks are given, and the rest is generated."""

import numpy as np
import pytest
import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler

from tests.pipelines.small import build, latents_of, network, picture, quadrant, seeded
from tests.tiny import relative_error


@pytest.mark.parametrize("keep", [1, 2, 3])
def test_kept_blocks_are_kept_exactly(pixels, keep):
    image = picture(pixels.data_channels)
    made = pixels([0, 2], image=image, keep_blocks=keep, generator=seeded(1, 2))
    assert made.evaluations == (4 - keep) * 3
    original = torch.from_numpy(np.array(image)).reshape(1, 8, 8, -1).permute(0, 3, 1, 2)
    for output in made.images:
        levels = torch.from_numpy(np.array(output)).reshape(1, 8, 8, -1).permute(0, 3, 1, 2)
        for block in range(4):
            assert torch.equal(quadrant(levels, block), quadrant(original, block)) == (block < keep)


def test_a_continuation_of_a_samples_own_start_is_that_sample():
    scheduler = DDIMScheduler(beta_schedule="linear", clip_sample=True)  # whose samples end within [-1, 1]
    pipeline = build(network(12), scheduler)
    full = pipeline([0, 1], generator=seeded(1, 2), output_type="pt").images
    assert float(full.std()) > 0.05
    for keep in (1, 2, 3):
        arguments = {"image": full, "keep_blocks": keep, "output_type": "pt"}
        continued = pipeline([0, 1], generator=seeded(1, 2), **arguments).images
        assert relative_error(continued, full) < 1e-5
        other = pipeline([1, 2], generator=seeded(3, 4), **arguments).images
        assert relative_error(quadrant(other, keep), quadrant(full, keep)) > 1e-2


def test_an_image_comes_in_any_form(pipe):
    image = picture(3)
    array = np.asarray(image, dtype=np.float32)[None] / 255  # (N, H, W, C)
    tensor = torch.from_numpy(array).permute(0, 3, 1, 2)
    made = [
        latents_of(pipe, [0, 1], image=form, keep_blocks=2, generator=seeded(1, 2))
        for form in (image, [image], array, tensor, tensor.expand(2, -1, -1, -1))
    ]
    assert all(relative_error(other, made[0]) < 1e-5 for other in made[1:])


def test_each_sample_may_continue_an_image_of_its_own(pipe):
    images = [picture(3, seed=1), picture(3, seed=2)]
    together = latents_of(pipe, [0, 1], image=images, keep_blocks=1, generator=seeded(1, 2))
    for place, image in enumerate(images):
        alone = latents_of(pipe, [place], image=image, keep_blocks=1, generator=seeded(place + 1))
        assert relative_error(together[place], alone[0]) < 1e-5
