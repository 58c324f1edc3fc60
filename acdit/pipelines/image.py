"""ACDiTImagePipeline: encode -> generate -> decode for images, in pixel or latent space."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from diffusers.image_processor import VaeImageProcessor
from diffusers.utils.outputs import BaseOutput
from torch import Tensor

from ..data.autoencoders import decode, encode
from ..diffusion.generate import draw_noise
from ..model.layout import Layout, dims
from ..model.transformer import ACDiTTransformer
from ..utils.errors import UserError
from .block_pipeline import FORMAT_VERSION
from .input_images import given_pixels
from .pixel_pipeline import ACDiTPipeline, ClassLabels
from .request import Request


@dataclass
class ACDiTImagePipelineOutput(BaseOutput):
    """What the pipeline made, and what it took.

    Attributes:
        images: PIL images, or an array (N, H, W, C) or tensor (N, C, H, W) in [0, 1], or latents (N, C, h,
            w).
        evaluations: calls of the network.
        cache_bytes: bytes of the key-value cache of the batch; 0 for a layout of one block.
    """

    images: Any
    evaluations: int
    cache_bytes: int


class ACDiTImagePipeline(ACDiTPipeline):
    """Generates images block by block from class labels, and continues images from their first blocks.

    Args:
        transformer: the network.
        scheduler: any diffusers scheduler for what the network predicts.
        vae: any diffusers autoencoder; None = the network works on pixels.
        grid, block, patch: the default layout, see `Layout`; patch in pixels, or in latent cells where there
            is a vae.
        id2label: names of the classes.
        pixel_range: of the data that the network was trained on.
        num_inference_steps, guidance_scale: defaults of a call.
        vae_scale_factor: pixels along the edge of a latent cell, where a model in latent space is kept
            without its autoencoder and draws latents alone; a vae brings its own.
    """

    def __init__(
        self,
        transformer: ACDiTTransformer,
        scheduler: Any,
        vae: Any = None,
        grid: list[int] | tuple[int, ...] = (8, 8),  # of types that diffusers can check when it loads
        block: list[int] | tuple[int, ...] = (4, 4),
        patch: list[int] | tuple[int, ...] = (1, 1),
        id2label: dict[int, str] | dict[str, str] | None = None,
        pixel_range: list[float] | tuple[float, ...] = (-1.0, 1.0),
        num_inference_steps: int = 25,
        guidance_scale: float = 1.5,
        vae_scale_factor: int = 1,
        format_version: int = FORMAT_VERSION,
    ):
        super().__init__(
            transformer,
            scheduler,
            vae,
            grid,
            block,
            patch,
            id2label,
            pixel_range,
            num_inference_steps,
            guidance_scale,
            vae_scale_factor,
            format_version,
        )
        self.image_processor = VaeImageProcessor(vae_scale_factor=self.vae_scale_factor, do_resize=False)

    @torch.no_grad()
    def __call__(
        self,
        class_labels: ClassLabels = None,
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
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
        latents: Tensor | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
        callback_on_step_end: Callable[..., dict[str, Any]] | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
    ) -> Any:
        """Generate images: an `ACDiTImagePipelineOutput`, or a tuple where `return_dict` is false.

        Args:
            class_labels: ids or names of classes; None, alone or in a list = an unconditional image.
            num_images_per_prompt: images per label.
            num_inference_steps: solver steps per block, one number or one for each block; the model's
                default.
            guidance_scale: classifier-free guidance; the model's default, 1 = none.
            guidance_rising: whether guidance rises over the blocks from 1 to its scale.
            guidance_interval: lowest and highest sigma at which guidance acts; None = all.
            height, width: of the images in pixels; the model's default.
            block: tokens of a block, (h, w); the model's default.
            image: to continue from, one for all samples or one for each: a PIL image, an array
                ([N,] H, W, C) or a tensor ([N,] C, H, W) in [0, 1].
            keep_blocks: blocks of `image` that are kept, in raster order.
            generator: one (it yields a seed per sample, in order) or one per sample.
            latents: noise (N, C, h, w) to start from, in place of what the generator would draw.
            output_type: `pil`, `np`, `pt` or `latent`.
            return_dict: an output object, or the tuple (images,).
            callback_on_step_end: called as (pipeline, step, timestep, tensors) after each solver step,
                counted over all blocks; `latents` is the whole picture so far, and may be returned with
                the block at hand changed.
            callback_on_step_end_tensor_inputs: which tensors the callback gets; `latents` is all there is.

        Raises:
            UserError: for an argument that does not fit the model.
        """
        layout = self._layout_for(height, width, block)
        if num_images_per_prompt < 1:
            raise UserError(f"num_images_per_prompt must be at least 1, not {num_images_per_prompt}")
        self._checked_output(output_type, reads_pixels=image is not None)
        samples = self._samples(class_labels, num_images_per_prompt, generator)
        if latents is not None:
            noise = self._initial(latents, len(samples), layout)
        else:
            noise = draw_noise(samples.generators, layout, self.data_channels).to(self._execution_device)
        request = Request(
            samples,
            layout,
            self._steps(num_inference_steps, layout),
            self._guidance(guidance_scale, guidance_rising, guidance_interval),
            noise,
            self._prefix(image, keep_blocks, layout, len(samples)),
        )
        finished = list(self._finished(request, callback_on_step_end, callback_on_step_end_tensor_inputs))
        blocks = [] if request.prefix is None else [request.prefix]
        blocks += [block.sample.float()[:, None] for block in finished]
        images = layout.from_blocks(torch.cat(blocks, dim=1))  # (N, C, h, w)
        if output_type != "latent":
            images = self._decode(images, output_type)
        self.maybe_free_model_hooks()
        if not return_dict:
            return (images,)
        evaluations, cache = sum(block.evaluations for block in finished), finished[-1].cache
        return ACDiTImagePipelineOutput(images, evaluations, 0 if cache is None else cache.nbytes)

    def _prefix(self, image: Any, keep_blocks: int, layout: Layout, batch: int) -> Tensor | None:
        """The kept blocks of the image to continue from, for every sample: (N, keep_blocks, B, C)."""
        if image is None and not keep_blocks:
            return None
        if image is None or not 1 <= keep_blocks < layout.num_blocks:
            raise UserError(
                f"to continue an image, give image and keep_blocks from 1 to {layout.num_blocks - 1}, "
                f"not {'no image' if image is None else 'an image'} and keep_blocks={keep_blocks}"
            )
        pixels = given_pixels(image, "image", axes=3, channels=self.pixel_channels)  # (1 or N, C, H, W)
        wanted = (self.pixel_channels, *(edge * self.vae_scale_factor for edge in layout.size))
        if tuple(pixels.shape[1:]) != wanted:
            raise UserError(
                f"image must be {dims(wanted)} (channels x height x width), not {dims(pixels.shape[1:])}"
            )
        if len(pixels) not in (1, batch):
            raise UserError(f"image must be one, or one for each of {batch} samples, not {len(pixels)}")
        data = self._to_data(pixels.to(self._execution_device))
        if self.vae is not None:
            data, _ = encode(self.vae, data)
        return layout.to_blocks(data.float())[:, :keep_blocks].expand(batch, -1, -1, -1)

    def _decode(self, latents: Tensor, output_type: str) -> Any:
        if self.vae is not None:
            latents = decode(self.vae, latents)
        return self.image_processor.postprocess(self._to_pixels(latents), output_type=output_type)


ACDiTImagePipeline.__module__ = "acdit"  # saved files name this module, so that the code may move
