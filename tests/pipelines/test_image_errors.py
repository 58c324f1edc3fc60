"""Arguments that do not fit the model: one line that says so, before the network is asked anything."""

import re

import numpy as np
import pytest
import torch

from acdit.pipelines.image import ACDiTImagePipeline
from acdit.utils.errors import UserError
from tests.pipelines.small import build, network, picture, seeded


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"class_labels": 3}, ["class_labels", "0..2", "3"]),
        ({"class_labels": [0, -1]}, ["class_labels", "-1"]),
        ({"class_labels": ["ant", "dog"]}, ["class_labels", "'dog'", "ant"]),
        ({"class_labels": [1.5]}, ["class_labels", "1.5"]),
        ({"class_labels": []}, ["class_labels"]),
        ({"num_images_per_prompt": 0}, ["num_images_per_prompt", "0"]),
        ({"num_images_per_prompt": 2.0}, ["num_images_per_prompt", "2.0"]),
        ({"guidance_scale": "2"}, ["guidance_scale", "'2'"]),
        ({"guidance_interval": 0.5}, ["guidance_interval", "0.5"]),
        ({"guidance_interval": (0.1,)}, ["guidance_interval", "(0.1,)"]),
        ({"context_noise": "0.1"}, ["context_noise", "0.1"]),
        ({"latents": torch.zeros(1, 3, 8, 8, dtype=torch.long)}, ["latents", "int64"]),
        ({"block": (3, 3)}, ["block", "3x3", "4x4"]),
        ({"block": (2, 2, 2)}, ["block"]),
        ({"height": 9}, ["height", "9", "2"]),
        ({"width": 0}, ["width", "0"]),
        ({"width": 12, "block": (4, 4)}, ["block", "4x6"]),
        ({"num_inference_steps": 0}, ["steps", "0"]),
        ({"num_inference_steps": -2}, ["steps", "-2"]),
        ({"num_inference_steps": [3, 3]}, ["steps", "4", "[3, 3]"]),
        ({"num_inference_steps": [3, 3, 0, 3]}, ["steps", "[3, 3, 0, 3]"]),
        ({"num_inference_steps": 2.5}, ["steps", "2.5"]),
        ({"num_inference_steps": [3, 3, 2.5, 3]}, ["steps", "2.5"]),
        ({"num_images_per_prompt": 1.5}, ["num_images_per_prompt", "1.5"]),
        ({"height": 8.5}, ["height", "8.5"]),
        ({"block": (2.5, 4)}, ["block", "2.5"]),
        ({"class_labels": 1.5}, ["1.5"]),
        ({"output_type": "jpeg"}, ["output_type", "'jpeg'", "pil"]),
        ({"class_labels": [0, 1], "generator": seeded(1)}, ["generator", "2", "1"]),
        ({"latents": torch.zeros(1, 3, 8, 4)}, ["latents", "(1, 3, 8, 8)", "(1, 3, 8, 4)"]),
        ({"keep_blocks": 1}, ["image", "keep_blocks"]),
        ({"image": picture(3)}, ["image", "keep_blocks", "3"]),
        ({"image": picture(3), "keep_blocks": 4}, ["keep_blocks", "3", "4"]),
        ({"image": picture(3), "keep_blocks": -1}, ["keep_blocks", "-1"]),
        ({"image": picture(3), "keep_blocks": 1.5}, ["keep_blocks", "integer", "1.5"]),
        ({"image": picture(3), "keep_blocks": True}, ["keep_blocks", "integer", "True"]),
        ({"block": (True, 4)}, ["block", "True"]),
        ({"num_inference_steps": True}, ["steps", "True"]),
        ({"window": True}, ["window", "True"]),
        ({"image": picture(3), "keep_blocks": 1, "block": (4, 4)}, ["keep_blocks"]),
        ({"image": picture(3, 16, 16), "keep_blocks": 1}, ["image", "3x8x8", "3x16x16"]),
        ({"image": torch.zeros(1, 8, 8), "keep_blocks": 1}, ["image", "3x8x8", "1x8x8"]),
        ({"image": torch.zeros(3, 8, 8) - 1, "keep_blocks": 1}, ["image", "0..1", "-1"]),
        ({"image": "picture.png", "keep_blocks": 1}, ["image", "PIL images"]),
        ({"image": [picture(3)] * 3, "keep_blocks": 1}, ["image", "3"]),
        ({"window": 0}, ["window", "0"]),
        ({"window": 1.5}, ["window", "1.5"]),
        ({"num_inference_steps": 3, "timesteps": [900, 500]}, ["num_inference_steps", "2", "3"]),
        ({"context_noise": -0.1}, ["context_noise", "-0.1"]),
        ({"context_noise": float("nan")}, ["context_noise", "nan"]),
        ({"callback_on_step_end_tensor_inputs": ["noise"]}, ["callback_on_step_end_tensor_inputs", "noise"]),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, dict) else "",
)
def test_bad_arguments_are_refused_in_one_line(pipe, arguments, words):
    evaluated = []
    handle = pipe.transformer.register_forward_hook(lambda *_: evaluated.append(1))
    try:
        with pytest.raises(ValueError) as caught:
            pipe(**arguments)
    finally:
        handle.remove()
    message = str(caught.value)
    assert "\n" not in message and all(word in message for word in words)
    assert not evaluated


@pytest.mark.parametrize("image", [torch.zeros(1, 8, 8), picture(3, 16, 16)], ids=["grey", "large"])
def test_a_prefix_that_does_not_fit_the_autoencoder_is_refused(latent_pipe, image):
    with pytest.raises(ValueError) as caught:
        latent_pipe(0, image=image, keep_blocks=1)
    message = str(caught.value)
    assert "\n" not in message and "image" in message and "8x8" in message


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"id2label": {0: "ant", 3: "dog"}}, "id2label names class 3, but the network has 3 classes"),
        ({"id2label": {"ant": "0"}}, "id2label must give numbers of classes their names, not 'ant': '0'"),
        ({"pixel_range": (1.0, -1.0)}, "pixel_range must rise, not be 1.0 to -1.0"),
        (
            {"pixel_range": (0.0, float("nan"))},
            "pixel_range must be a list of 2 values, each a finite",
        ),
        ({"num_inference_steps": 0}, "num_inference_steps must be a whole number from 1 to"),
        ({"guidance_scale": float("inf")}, "guidance_scale must be a finite number"),
        ({"data_source": 5}, "data_source must be text or null, not 5"),
        ({"pixel_range": 5}, "pixel_range must be a list of 2 values, each a finite"),
    ],
)
def test_settings_that_could_not_be_loaded_again_are_refused(settings, message):
    with pytest.raises(UserError, match=f"^{re.escape(message)}"):
        build(network(4), **settings)


def test_numbers_of_numpy_are_numbers(tmp_path):
    settings = {"num_inference_steps": np.int64(3), "guidance_scale": np.float64(2.5)}
    build(network(4), **settings, pixel_range=[0, 1]).save_pretrained(tmp_path)
    loaded = ACDiTImagePipeline.from_pretrained(tmp_path).config
    assert (loaded["num_inference_steps"], loaded["guidance_scale"]) == (3, 2.5)
    assert tuple(loaded["pixel_range"]) == (0, 1)
