"""What diffusers' common tests check of every pipeline, as far as it applies; see docs/diffusers-tests.md."""

import inspect
import json
from typing import Any

import numpy as np
import pytest
import torch

from acdit.data.tokenizers import ByteTokenizer
from acdit.diffusion.masked_schedulers import FirstHittingScheduler
from acdit.pipelines.text import ACDiTTextPipeline
from acdit.utils.errors import UserError
from tests.pipelines.small import build, network, quiet, seeded, small_autoencoder
from tests.pipelines.test_video import build as build_video
from tests.tiny import relative_error, tiny_model


def build_text() -> Any:
    size = ByteTokenizer().vocab_size
    model = tiny_model(
        in_channels=None, vocab_size=size, axis_lengths=(16,), num_classes=None, time_conditioning=False
    )
    return quiet(ACDiTTextPipeline(model, FirstHittingScheduler(mask_token=size - 1), grid=(16,), block=(4,)))


BUILDERS = {
    "image": lambda: build(network(12)),
    "latents": lambda: build(network(4), vae=small_autoencoder(), patch=(1, 1)),
    "video": build_video,
    "text": build_text,
}
PIXELS = ["image", "latents", "video"]


@pytest.fixture(scope="module", params=BUILDERS)
def pipe(request):
    return BUILDERS[request.param]()


@pytest.fixture(scope="module", params=PIXELS)
def pixels(request):
    return BUILDERS[request.param]()


def drawn(pipeline: Any, count: int = 2, seeds: tuple[int, ...] = (1, 2), **arguments: Any) -> torch.Tensor:
    """Samples of a pipeline as one tensor: numbers of pixels, or tokens."""
    if isinstance(pipeline, ACDiTTextPipeline):
        given = {"prompt": ["ab", "c", "d"][:count], "max_new_tokens": 6, "output_type": "tokens"}
        rows = pipeline(**given | arguments, generator=seeded(*seeds), return_dict=False)[0]
        return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True).float()
    given = {"class_labels": [0, 2, 1][:count], "output_type": "pt"}
    return pipeline(**given | arguments, generator=seeded(*seeds), return_dict=False)[0].float()


def test_saved_and_loaded_pipelines_draw_the_same(pipe, tmp_path):
    pipe.save_pretrained(tmp_path)
    loaded = quiet(type(pipe).from_pretrained(tmp_path))
    assert torch.equal(drawn(loaded), drawn(pipe))
    loaded.save_pretrained(tmp_path / "again")
    for name in ("model_index.json", "transformer/config.json"):
        assert json.loads((tmp_path / "again" / name).read_text()) == json.loads(
            (tmp_path / name).read_text()
        )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_saved_and_loaded_in_half_precision(pixels, tmp_path, dtype):
    half = type(pixels).from_pipe(
        pixels, transformer=type(pixels.transformer).from_config(pixels.transformer.config)
    )
    half.transformer.load_state_dict(pixels.transformer.state_dict())
    half.transformer.to(dtype).eval()
    half.save_pretrained(tmp_path)
    loaded = quiet(type(pixels).from_pretrained(tmp_path, dtype=dtype))
    assert loaded.transformer.dtype == dtype
    kept = quiet(half)
    latents = [drawn(each, output_type="latent") for each in (kept, loaded)]
    assert torch.equal(*latents)
    assert relative_error(latents[0], drawn(pixels, output_type="latent")) < 0.1


def test_optional_components_may_be_missing(tmp_path):
    pipeline = BUILDERS["latents"]()
    pipeline.save_pretrained(tmp_path)
    without = quiet(type(pipeline).from_pretrained(tmp_path, vae=None))
    assert without.vae is None and pipeline._optional_components == ["vae"]
    without.save_pretrained(tmp_path / "without")
    again = quiet(type(pipeline).from_pretrained(tmp_path / "without"))
    assert again.vae is None
    expected = drawn(pipeline, output_type="latent")
    assert torch.equal(drawn(again, output_type="latent"), expected)


def test_components_are_the_modules(pipe):
    names = set(inspect.signature(type(pipe).__init__).parameters)
    assert {"transformer", "scheduler"} <= set(pipe.components) <= names
    other = quiet(type(pipe).from_pipe(pipe))
    assert other.transformer is pipe.transformer
    assert torch.equal(drawn(other), drawn(pipe))


def test_another_pipeline_takes_the_parts_in_their_precision(tmp_path):
    pipe = BUILDERS["latents"]()
    pipe.transformer.to(torch.bfloat16)
    other = type(pipe).from_pipe(pipe)
    assert other.transformer is pipe.transformer and other.vae is pipe.vae
    assert (pipe.transformer.dtype, pipe.vae.dtype) == (torch.bfloat16, torch.float32)
    type(pipe).from_pipe(pipe, dtype=torch.float16)
    assert pipe.transformer.dtype == pipe.vae.dtype == torch.float16


@pytest.mark.parametrize("kind", ["image", "text"])
def test_a_model_that_cannot_be_saved_leaves_what_was_there(kind, tmp_path):
    other = BUILDERS[kind]()
    other.save_pretrained(tmp_path / "saved")
    (tmp_path / "saved" / "tokenizer.json").write_text("of another model")
    before = {path: path.read_bytes() for path in (tmp_path / "saved").rglob("*") if path.is_file()}
    with torch.no_grad():
        next(other.transformer.parameters()).fill_(torch.nan)
    for name in ("saved", "new"):
        with pytest.raises(UserError, match="not finite"):
            other.save_pretrained(tmp_path / name)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_variants_of_weights_are_saved_and_loaded(tmp_path):
    pipe = BUILDERS["latents"]()
    pipe.save_pretrained(tmp_path, variant="fp16")
    assert (tmp_path / "vae" / "diffusion_pytorch_model.fp16.safetensors").exists()
    loaded = quiet(type(pipe).from_pretrained(tmp_path, variant="fp16"))
    assert torch.equal(drawn(loaded), drawn(pipe))
    (tmp_path / "vae" / "diffusion_pytorch_model.fp16.safetensors").rename(
        tmp_path / "vae" / "diffusion_pytorch_model.safetensors"
    )
    mixed = quiet(type(pipe).from_pretrained(tmp_path, variant="fp16"))  # as diffusers, where a part has none
    assert torch.equal(drawn(mixed), drawn(pipe))


def test_samples_do_not_depend_on_their_batch(pipe):
    together = drawn(pipe, 3, (1, 2, 3))
    for count in (1, 2):
        part = drawn(pipe, count, (1, 2, 3)[:count])
        width = part.shape[-1] if part.ndim == 2 else None
        expected = together[:count] if width is None else together[:count, :width]
        assert relative_error(part, expected) < 1e-4


def test_several_samples_per_prompt(pipe):
    name = next(
        name for name in inspect.signature(type(pipe).__call__).parameters if name.endswith("per_prompt")
    )
    for count, prompts in ((1, 1), (2, 1), (2, 2)):
        made = drawn(pipe, prompts, tuple(range(count * prompts)), **{name: count})
        assert len(made) == count * prompts


def test_dictionaries_and_tuples_hold_the_same(pipe):
    text = isinstance(pipe, ACDiTTextPipeline)
    arguments = {"prompt": "ab"} if text else {"class_labels": 1, "output_type": "np"}
    output = pipe(**arguments, generator=seeded(1))
    (first,) = pipe(**arguments, generator=seeded(1), return_dict=False)
    assert np.array_equal(output[0], first) if not text else output[0] == first
    assert next(iter(output.values())) is output[0]


def test_latents_come_out_and_go_in(pixels):
    latents = drawn(pixels, output_type="latent")
    assert latents.shape[1] == pixels.data_channels and latents.isfinite().all()
    noise = torch.randn(latents.shape, generator=seeded(5)[0])
    made = [drawn(pixels, latents=noise, seeds=seeds) for seeds in ((1, 2), (3, 4))]
    assert torch.equal(*made)


def test_guidance_can_be_switched_off(pixels):
    plain, guided = (drawn(pixels, guidance_scale=scale) for scale in (1.0, 3.0))
    assert relative_error(guided, plain) > 1e-3


def test_callbacks_get_every_input_and_may_change_it(pipe):
    (name,) = {"latents", "tokens"} & set(pipe._callback_tensor_inputs)
    seen = []

    def look(pipeline, step, timestep, tensors):
        seen.append(sorted(tensors))
        return tensors

    drawn(pipe, callback_on_step_end=look, callback_on_step_end_tensor_inputs=pipe._callback_tensor_inputs)
    assert seen and set(map(tuple, seen)) == {tuple(sorted(pipe._callback_tensor_inputs))}
    if name == "latents":

        def erase(pipeline, step, timestep, tensors):
            return {"latents": torch.zeros_like(tensors["latents"])}

        assert not drawn(pipe, output_type="latent", callback_on_step_end=erase).any()


def test_dtypes_and_devices(pixels):
    before = drawn(pixels)
    pixels.to(torch.float64)
    assert pixels.dtype == torch.float64
    pixels.to("cpu", torch.float32)
    assert pixels.device.type == "cpu" and torch.equal(drawn(pixels), before)


@pytest.mark.parametrize("name", BUILDERS)
@pytest.mark.parametrize("way", ["block_level", "leaf_level", "layerwise"])
def test_offloaded_and_cast_weights(name, way, tmp_path):
    pipeline = BUILDERS[name]()
    before = drawn(pipeline)
    if way == "layerwise":
        pipeline.transformer.enable_layerwise_casting(
            storage_dtype=torch.bfloat16, compute_dtype=torch.float32
        )
        after = drawn(pipeline)
        assert after.isfinite().all() and (name == "text" or relative_error(after, before) < 0.1)
        return
    pipeline.transformer.enable_group_offload(
        onload_device=torch.device("cpu"),
        offload_device=torch.device("cpu"),
        offload_type=way,
        num_blocks_per_group=1 if way == "block_level" else None,
        offload_to_disk_path=str(tmp_path),
    )
    assert torch.equal(drawn(pipeline), before)
