"""ACDiTImagePipeline: encode -> generate -> decode for images, in pixel or latent space."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from diffusers.image_processor import VaeImageProcessor
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from diffusers.utils.outputs import BaseOutput
from torch import Tensor

from ..autoencoders import decode, encode, scale_factor
from ..errors import UserError
from ..layout import Layout, dims
from ..sampling import Guidance, StepEnd, draw_noise, generate, steps_per_block
from ..transformer import ACDiTTransformer

FORMAT_VERSION = 1


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


class ACDiTImagePipeline(DiffusionPipeline):
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

    model_cpu_offload_seq = "transformer->vae"
    _optional_components = ["vae"]
    _callback_tensor_inputs = ["latents"]

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
        super().__init__()
        if format_version != FORMAT_VERSION:
            raise UserError(
                f"this pipeline has format version {format_version}, not {FORMAT_VERSION}: upgrade acdit"
            )
        self.register_modules(transformer=transformer, scheduler=scheduler, vae=vae)
        if vae is not None:
            made = vae.config.latent_channels, scale_factor(vae)
            wanted = transformer.config["in_channels"] // math.prod(patch), vae_scale_factor
            if made[0] != wanted[0] or wanted[1] not in (1, made[1]):
                raise UserError(
                    f"the vae makes {made[0]} channels of cells of {made[1]} pixels, "
                    f"but the network wants {wanted[0]} of {wanted[1]}"
                )
            vae_scale_factor = made[1]
        self.register_to_config(
            grid=tuple(grid),
            block=tuple(block),
            patch=tuple(patch),
            id2label={str(index): name for index, name in (id2label or {}).items()},
            pixel_range=tuple(pixel_range),
            num_inference_steps=num_inference_steps,
            guidance_scale=guidance_scale,
            vae_scale_factor=vae_scale_factor,
            format_version=format_version,
        )
        self.vae_scale_factor = vae_scale_factor
        self.image_processor = VaeImageProcessor(vae_scale_factor=self.vae_scale_factor, do_resize=False)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, **kwargs: Any) -> "ACDiTImagePipeline":
        """Load as any diffusers pipeline, but never a pickle."""
        return super().from_pretrained(pretrained_model_name_or_path, **{"use_safetensors": True, **kwargs})

    @property
    def layout(self) -> Layout:
        """The default layout."""
        return Layout(tuple(self.config["grid"]), tuple(self.config["block"]), tuple(self.config["patch"]))

    @property
    def label_names(self) -> dict[int, str]:
        """Class index -> name."""
        return {int(index): name for index, name in self.config["id2label"].items()}

    @property
    def data_channels(self) -> int:
        """Channels of a pixel, or of a latent cell."""
        return self.transformer.config["in_channels"] // self.layout.patch_elements

    def label_ids(self, class_labels: int | str | Sequence[int | str]) -> list[int]:
        """Class ids from ids and names.

        Raises:
            UserError: for a class that the model does not know.
        """
        names = {name: index for index, name in self.label_names.items()}
        count = self.transformer.config["num_classes"] or 0
        listed = list(class_labels) if isinstance(class_labels, Sequence | Tensor) else [class_labels]
        if isinstance(class_labels, str):
            listed = [class_labels]
        if not listed:
            raise UserError("class_labels must name at least one class; None draws without one")
        ids = []
        for label in listed:
            index = names.get(label, -1) if isinstance(label, str) else label
            if index != int(index) or not 0 <= index < count:
                known = f"0..{count - 1}" if count else "none: the model is unconditional"
                some = f", or names such as {', '.join(list(names)[:3])}" if names else ""
                raise UserError(f"class_labels must be classes of the model, {known}{some}, not {label!r}")
            ids.append(int(index))
        return ids

    @torch.no_grad()
    def __call__(
        self,
        class_labels: int | str | Sequence[int | str] | None = None,
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
            class_labels: ids or names of classes; None = one unconditional image.
            num_images_per_prompt: images per label.
            num_inference_steps: solver steps per block, one number or one for each block; the model's
                default.
            guidance_scale: classifier-free guidance; the model's default, 1 = none.
            guidance_rising: whether guidance rises over the blocks from 1 to its scale.
            guidance_interval: lowest and highest sigma at which guidance acts; None = all.
            height, width: of the images in pixels; the model's default.
            block: tokens of a block, (h, w); the model's default.
            image: PIL image, array or tensor (one for all samples) to continue from.
            keep_blocks: blocks of `image` that are kept, in raster order.
            generator: one (it yields a seed per sample, in order) or one per sample.
            latents: noise (N, C, h, w) to start from, in place of what the generator would draw.
            output_type: `pil`, `np`, `pt` or `latent`.
            return_dict: an output object, or the tuple (images,).
            callback_on_step_end: called as (pipeline, step, timestep, tensors) after each solver step,
                counted over all blocks; `latents` is the whole picture so far, and may be returned changed.
            callback_on_step_end_tensor_inputs: which tensors the callback gets; `latents` is all there is.

        Raises:
            UserError: for an argument that does not fit the model.
        """
        layout = self._layout_for(height, width, block)
        steps = self.config["num_inference_steps"] if num_inference_steps is None else num_inference_steps
        counts = steps_per_block(steps, layout.num_blocks)
        if num_images_per_prompt < 1:
            raise UserError(f"num_images_per_prompt must be at least 1, not {num_images_per_prompt}")
        if output_type not in ("pil", "np", "pt", "latent"):
            raise UserError(f"output_type must be pil, np, pt or latent, not {output_type!r}")
        if self.vae is None and self.vae_scale_factor > 1 and (output_type != "latent" or image is not None):
            raise UserError(
                "the model draws latents and was kept without its autoencoder: give from_pretrained a vae, "
                "or ask for output_type latent"
            )
        unknown = set(callback_on_step_end_tensor_inputs) - set(self._callback_tensor_inputs)
        if unknown:
            raise UserError(
                f"callback_on_step_end_tensor_inputs knows latents alone, not {', '.join(sorted(unknown))}"
            )
        device = self._execution_device
        labels, batch = None, num_images_per_prompt
        if class_labels is not None:
            ids = self.label_ids(class_labels)
            labels = torch.tensor(ids, device=device).repeat_interleave(num_images_per_prompt)
            batch = len(labels)
        generators = _one_per_sample(generator, batch)
        if latents is not None:
            if tuple(latents.shape) != (batch, self.data_channels, *layout.size):
                wanted = (batch, self.data_channels, *layout.size)
                raise UserError(f"latents must have the shape {wanted}, not {tuple(latents.shape)}")
            noise = layout.to_blocks(latents)
        else:
            noise = draw_noise(generators, layout, self.data_channels)
        noise = noise.to(device)
        prefix = self._prefix(image, keep_blocks, layout, batch)

        canvas = noise.float().clone()  # (N, T, B, C): finished blocks, and noise where none is yet
        start = 0 if prefix is None else prefix.shape[1]
        if prefix is not None:
            canvas[:, :start] = prefix
        scale = self.config["guidance_scale"] if guidance_scale is None else guidance_scale
        evaluations, cache_bytes = 0, 0
        with self.progress_bar(total=sum(counts[start:])) as progress:  # pyright: ignore[reportCallIssue]

            def on_step(end: StepEnd) -> Tensor | None:
                progress.update()
                if callback_on_step_end is None:
                    return None
                canvas[:, end.block] = end.sample
                tensors = (
                    {"latents": layout.from_blocks(canvas)} if callback_on_step_end_tensor_inputs else {}
                )
                returned = callback_on_step_end(self, end.step, end.timestep, tensors).get("latents")
                return None if returned is None else layout.to_blocks(returned)[:, end.block]

            for finished in generate(
                self.transformer,
                layout,
                noise,
                scheduler=self.scheduler,
                steps=counts,
                labels=labels,
                guidance=Guidance(scale, guidance_rising, guidance_interval),
                prefix=prefix,
                generators=generators,
                on_step=on_step,
            ):
                canvas[:, finished.index] = finished.sample
                evaluations += finished.evaluations
                cache_bytes = 0 if finished.cache is None else finished.cache.nbytes
        images = layout.from_blocks(canvas)  # (N, C, h, w)
        if output_type != "latent":
            images = self._decode(images, output_type)
        self.maybe_free_model_hooks()
        return ACDiTImagePipelineOutput(images, evaluations, cache_bytes) if return_dict else (images,)

    def _layout_for(self, height: int | None, width: int | None, block: Sequence[int] | None) -> Layout:
        layout = self.layout
        grid = []
        for name, pixels, tokens, patch in zip(
            ("height", "width"), (height, width), layout.grid, layout.patch, strict=True
        ):
            edge = patch * self.vae_scale_factor
            if pixels is not None and (pixels < edge or pixels % edge):
                raise UserError(f"{name} must be a multiple of {edge} pixels, not {pixels}")
            grid.append(tokens if pixels is None else pixels // edge)
        return Layout(tuple(grid), tuple(block or layout.block), layout.patch)

    def _prefix(self, image: Any, keep_blocks: int, layout: Layout, batch: int) -> Tensor | None:
        """The kept blocks of the image to continue from, for every sample: (N, keep_blocks, B, C)."""
        if image is None and not keep_blocks:
            return None
        if image is None or not 1 <= keep_blocks < layout.num_blocks:
            raise UserError(
                f"to continue an image, give image and keep_blocks from 1 to {layout.num_blocks - 1}, "
                f"not {'no image' if image is None else 'an image'} and keep_blocks={keep_blocks}"
            )
        pixels = self.image_processor.preprocess(image).to(
            self._execution_device
        )  # (1 or N, C, H, W) in [-1, 1]
        channels = self.data_channels if self.vae is None else self.vae.config.in_channels
        wanted = (channels, *(edge * self.vae_scale_factor for edge in layout.size))
        if tuple(pixels.shape[1:]) != wanted:
            raise UserError(
                f"image must be {dims(wanted)} (channels x height x width), not {dims(pixels.shape[1:])}"
            )
        if len(pixels) not in (1, batch):
            raise UserError(f"image must be one, or one for each of {batch} samples, not {len(pixels)}")
        low, high = self.config["pixel_range"]
        data = low + (high - low) * (pixels + 1) / 2
        if self.vae is not None:
            data, _ = encode(self.vae, data)
        return layout.to_blocks(data.float())[:, :keep_blocks].expand(batch, -1, -1, -1)

    def _decode(self, latents: Tensor, output_type: str) -> Any:
        if self.vae is not None:
            latents = decode(self.vae, latents)
        low, high = self.config["pixel_range"]
        pixels = 2 * (latents.float() - low) / (high - low) - 1
        return self.image_processor.postprocess(pixels, output_type=output_type)


def _one_per_sample(
    generator: torch.Generator | Sequence[torch.Generator] | None, batch: int
) -> list[torch.Generator]:
    """A generator for every sample: those given, or seeded in order from the one given (or torch's own)."""
    if generator is not None and not isinstance(generator, torch.Generator):
        if len(generator) != batch:
            raise UserError(
                f"generator must be one, or one for each of {batch} samples, not {len(generator)}"
            )
        return list(generator)
    source = generator
    device = "cpu" if source is None else source.device
    seeds = torch.randint(2**63 - 1, (batch,), generator=source, device=device).tolist()
    return [torch.Generator().manual_seed(seed) for seed in seeds]


ACDiTImagePipeline.__module__ = "acdit"  # saved files name this module, so that the code may move
