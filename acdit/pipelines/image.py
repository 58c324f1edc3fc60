"""ACDiTImagePipeline: encode -> generate -> decode for images, in pixel or latent space."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Unpack

import torch
from diffusers.image_processor import VaeImageProcessor
from diffusers.utils.outputs import BaseOutput
from torch import Tensor

from ..data.autoencoders import decode, encode
from ..diffusion.generate import draw_noise
from ..model.layout import Layout, dims
from ..utils.checks import is_integer
from ..utils.errors import UserError
from .callbacks import StepFunction
from .generators import Generators
from .input_images import given_pixels
from .labels import ClassLabels, LabelsByBlock
from .pixel_pipeline import ACDiTPipeline
from .request import Request, Samples, SharedArguments


@dataclass
class ACDiTImagePipelineOutput(BaseOutput):
    """Output of the image pipeline.

    Attributes:
        images: PIL images, an array (N, H, W, C) or a tensor (N, C, H, W) in [0, 1], or latents
            (N, C, h, w).
        evaluations: number of network calls.
        cache_bytes: size of the batch's key-value cache in bytes; 0 for a layout of one block.
    """

    images: Any
    evaluations: int
    cache_bytes: int


@dataclass(frozen=True)
class ImagePiece:
    """Images as they are after one more block.

    Attributes:
        images: images so far, in the form of `ACDiTImagePipelineOutput`; blocks that are not generated yet
            are grey, or decoded from zeros if there is an autoencoder.
        block: index of the block that has just been generated.
        evaluations: number of network calls so far.
        cache_bytes: size of the batch's key-value cache in bytes so far.
        complete: whether all steps of the block were taken; only the last piece of an interrupted stream may
            be incomplete.
    """

    images: Any
    block: int
    evaluations: int
    cache_bytes: int
    complete: bool = True


class ACDiTImagePipeline(ACDiTPipeline):
    """Pipeline that generates images block by block, from class labels or as continuations of images.

    Args:
        transformer: the network.
        scheduler: any diffusers scheduler that matches what the network predicts.
        vae: any diffusers autoencoder; None = the network works on pixels.
        grid: tokens of the default layout along each axis, (h, w); see `Layout`.
        block: tokens of a block along each axis, (h, w).
        patch: size of a token along each axis, (h, w), in pixels, or in latent cells if there is a vae.
        id2label: class names by class id.
        pixel_range: lowest and highest pixel value of the data that the network was trained on.
        num_inference_steps: default number of solver steps per block.
        guidance_scale: default scale of classifier-free guidance.
        vae_scale_factor: side of a latent cell in pixels, for a latent-space model that is stored without
            its autoencoder and generates latents only; a vae defines its own.
        format_version: version of the format of saved pipelines.
        data_source: name of the data set that the network was trained on; None = not recorded.

    Example:
        ```python
        import acdit

        pipe = acdit.load_pipeline("mnist", kind=acdit.ACDiTImagePipeline)
        pipe(class_labels=[3, 1], num_inference_steps=8).images[0].save("three.png")
        ```
    """

    samples_name = "images"
    default_guidance_scale = 1.5

    @cached_property
    def image_processor(self) -> VaeImageProcessor:
        """Return the converter of tensors to images."""
        return VaeImageProcessor(vae_scale_factor=self.vae_scale_factor, do_resize=False)

    @torch.no_grad()
    def __call__(
        self,
        class_labels: ClassLabels | LabelsByBlock = None,
        num_images_per_prompt: int = 1,
        num_inference_steps: int | Sequence[int] | None = None,
        guidance_scale: float | None = None,
        guidance_rising: bool = False,
        guidance_interval: tuple[float, float] | None = None,
        height: int | None = None,
        width: int | None = None,
        block: Sequence[int] | None = None,
        image: Any = None,
        keep_blocks: int = 0,
        generator: Generators = None,
        latents: Tensor | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
        callback_on_step_end: StepFunction | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
        timesteps: Sequence[float] | None = None,
        sigmas: Sequence[float] | None = None,
        mu: float | None = None,
        window: int | None = None,
        context_noise: float = 0.0,
    ) -> Any:
        """Generate images.

        Args:
            class_labels: ids or names of classes; None, alone or in a list = an unconditional image. An
                iterator yields them for one block after another, without those of `keep_blocks`, and is read
                just before a block begins: one label for all images, or a list of one for each.
            num_images_per_prompt: number of images per label; of all images, if labels are an iterator.
            num_inference_steps: solver steps per block, one number for all blocks or one for each; default:
                the model's.
            guidance_scale: scale of classifier-free guidance, 1 = none; default: the model's.
            guidance_rising: whether the guidance scale rises over the blocks, from 1 to `guidance_scale`.
            guidance_interval: lowest and highest sigma at which guidance is applied; None = all.
            height: height of the images in pixels; default: the model's.
            width: width of the images in pixels; default: the model's.
            block: tokens of a block, (h, w); default: the model's.
            image: image to continue, one for all samples or one for each: a PIL image, an array
                ([N,] H, W, C) or a tensor ([N,] C, H, W) in [0, 1].
            keep_blocks: number of blocks of `image` to keep, in raster order.
            generator: one generator per sample, or one generator for all: it draws the initial noise of all
                samples in order, as in diffusers, so that the first sample is that of a list with this
                generator, unless the solver draws noise in its steps or `context_noise` is given.
            latents: initial noise (N, C, h, w), in place of noise from the generator.
            output_type: `pil`, `np`, `pt` or `latent`.
            return_dict: whether to return an output object in place of the tuple (images,).
            callback_on_step_end: function called as (pipeline, step, timestep, tensors) after each solver
                step; `step` counts over all blocks. The tensor `latents` is the whole image so far; the
                function may return it with the current block changed, or None. It may set
                `pipeline._interrupt = True` to end the generation, and `pipeline._guidance_scale`. Callbacks
                of `diffusers.callbacks` name their tensors themselves.
            callback_on_step_end_tensor_inputs: names of the tensors that the callback receives: `latents`, or
                the names of `CONDITIONS`.
            timesteps: timesteps of every block in place of the scheduler's, the noisiest first, if the
                scheduler takes them. They hold for all blocks, in place of `num_inference_steps`.
            sigmas: noise levels of every block, likewise; not together with `timesteps`.
            mu: shift of the noise levels, for schedulers with `use_dynamic_shifting`.
            window: number of previous blocks visible to each block; None = all.
            context_noise: standard deviation of the noise on finished blocks that later blocks attend to.

        Returns:
            An `ACDiTImagePipelineOutput`, or a tuple if `return_dict` is false.

        Raises:
            UserError: if an argument does not fit the model.
        """
        request = self._image_request(
            class_labels,
            num_images_per_prompt,
            image,
            keep_blocks,
            window,
            context_noise,
            num_inference_steps=num_inference_steps,
            timesteps=timesteps,
            sigmas=sigmas,
            mu=mu,
            guidance_scale=guidance_scale,
            guidance_rising=guidance_rising,
            guidance_interval=guidance_interval,
            height=height,
            width=width,
            block=block,
            generator=generator,
            latents=latents,
            output_type=output_type,
            callback_on_step_end=callback_on_step_end,
            callback_on_step_end_tensor_inputs=callback_on_step_end_tensor_inputs,
        )
        samples, evaluations, cache_bytes = self._generated(request)
        images = self._decode(samples, output_type)
        self.maybe_free_model_hooks()
        return ACDiTImagePipelineOutput(images, evaluations, cache_bytes) if return_dict else (images,)

    @torch.no_grad()
    def stream(
        self,
        class_labels: ClassLabels | LabelsByBlock = None,
        num_images_per_prompt: int = 1,
        image: Any = None,
        keep_blocks: int = 0,
        window: int | None = None,
        context_noise: float = 0.0,
        **arguments: Unpack[SharedArguments],
    ) -> Iterator[ImagePiece]:
        """Stream the images of a call after every block; those of the last piece are the call's.

        The arguments are those of a call, except `return_dict`; they are checked immediately. A stream ends
        like a call if `pipeline._interrupt` is set, by a callback, between two pieces or by another thread:
        after the current solver step, or before the next block begins. If a block was begun, the last piece
        shows it as it was then.
        """
        return self._pieces(
            self._image_request(
                class_labels, num_images_per_prompt, image, keep_blocks, window, context_noise, **arguments
            )
        )

    @torch.no_grad()
    def _pieces(self, request: Request) -> Iterator[ImagePiece]:
        layout, evaluations = request.layout, 0
        blocks = self._empty_blocks(request)
        try:
            for finished in self._finished(request):
                blocks[:, finished.index] = finished.sample.float()
                evaluations += finished.evaluations
                images = self._decode(layout.from_blocks(blocks.clone()), request.output_type)
                yield ImagePiece(images, finished.index, evaluations, finished.cache_bytes, finished.complete)
        finally:  # also if the caller stops before the end
            self.maybe_free_model_hooks()

    def _image_request(
        self,
        class_labels: ClassLabels | LabelsByBlock,
        num_images_per_prompt: int,
        image: Any,
        keep_blocks: int,
        window: int | None,
        context_noise: float,
        **arguments: Unpack[SharedArguments],
    ) -> Request:
        """Check the arguments of a call or a stream and return them as a request; see `__call__`."""
        output_type, reads_pixels = arguments.get("output_type", "pil"), image is not None
        self.check_inputs(
            num_images_per_prompt, output_type, reads_pixels, window, context_noise=context_noise
        )
        request = self._request(class_labels, num_images_per_prompt, **arguments)
        prefix = self._prefix(image, keep_blocks, request.layout, len(request.samples))
        return replace(request, prefix=prefix, window=window, context_noise=context_noise)

    def _noise_sources(self, generator: Generators, samples: Samples) -> list[torch.Generator]:
        shared = isinstance(generator, torch.Generator)  # draws the noise of all images, as in diffusers
        return [generator] * len(samples) if shared else samples.generators

    def _draw_noise(self, generators: Sequence[torch.Generator], layout: Layout) -> Tensor:
        return draw_noise(generators, layout, self.data_channels).to(self._execution_device)

    def _prefix(self, image: Any, keep_blocks: int, layout: Layout, batch: int) -> Tensor | None:
        """Return the kept blocks of the image to continue, for every sample: (N, keep_blocks, B, C)."""
        if image is None and not keep_blocks:
            return None
        if image is None or not is_integer(keep_blocks) or not 1 <= keep_blocks < layout.num_blocks:
            raise UserError(
                "to continue an image, pass image and keep_blocks, an integer from 1 to "
                f"{layout.num_blocks - 1}, not {'no image' if image is None else 'an image'} and "
                f"keep_blocks={keep_blocks}"
            )
        pixels = given_pixels(image, "image", axes=3, channels=self.pixel_channels)  # (1 or N, C, H, W)
        shape = (self.pixel_channels, *(size * self.vae_scale_factor for size in layout.size))
        if tuple(pixels.shape[1:]) != shape:
            raise UserError(
                f"image must be {dims(shape)} (channels x height x width), not {dims(pixels.shape[1:])}"
            )
        if len(pixels) not in (1, batch):
            raise UserError(f"image must be one image or {batch} images (one per sample), not {len(pixels)}")
        data = self.to_data(pixels.to(self._execution_device))
        if self.vae is not None:
            data, _ = encode(self.vae, data)
        return layout.to_blocks(data.float())[:, :keep_blocks].expand(batch, -1, -1, -1)

    def _decode(self, latents: Tensor, output_type: str) -> Any:
        """Decode latents (N, C, h, w) to images of an output type."""
        if output_type == "latent":
            return latents
        if self.vae is not None:
            latents = decode(self.vae, latents)
        return self.image_processor.postprocess(self._to_pixels(latents), output_type=output_type)


ACDiTImagePipeline.__module__ = "acdit"  # saved files name this module, so that the code can be moved
