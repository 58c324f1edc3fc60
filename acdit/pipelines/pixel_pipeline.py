"""ACDiTPipeline: the base class of the image and video pipelines; turns a request into finished blocks."""

import math
from collections.abc import Callable, Iterator, Sequence
from numbers import Integral
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..data.autoencoders import scale_factor
from ..diffusion.generate import Block, Guidance, StepEnd, generate, middle_levels, steps_per_block
from ..model.layout import Layout
from ..model.transformer import ACDiTTransformer
from ..utils.errors import UserError
from .block_pipeline import BlockPipeline, check_format
from .request import Callback, Request, Samples, one_per_sample

FAST_STEPS = 8
OUTPUT_TYPES = ("pil", "np", "pt", "latent")

ClassLabels = int | str | None | Sequence[int | str | None]


class ACDiTPipeline(BlockPipeline):
    """Base class of the pipelines that generate images and video block by block from class labels.

    Args:
        transformer: the network.
        scheduler: any diffusers scheduler that matches what the network predicts.
        vae: any diffusers autoencoder of images; None = the network works on pixels.
        grid: tokens of the default layout along each axis, see `Layout`.
        block: tokens of a block along each axis.
        patch: size of a token along each axis, in pixels, or in latent cells if there is a vae.
        id2label: class names by class id.
        pixel_range: lowest and highest pixel value of the data that the network was trained on.
        num_inference_steps: default number of solver steps per block.
        guidance_scale: default scale of classifier-free guidance.
        vae_scale_factor: side of a latent cell in pixels, for a latent-space model that is stored without
            its autoencoder and generates latents only; a vae defines its own.
        format_version: version of the format of saved pipelines.
    """

    model_cpu_offload_seq = "transformer->vae"
    _optional_components = ["vae"]
    _callback_tensor_inputs = ["latents"]

    def __init__(
        self,
        transformer: ACDiTTransformer,
        scheduler: Any,
        vae: Any,
        grid: Sequence[int],
        block: Sequence[int],
        patch: Sequence[int],
        id2label: dict[int, str] | dict[str, str] | None,
        pixel_range: Sequence[float],
        num_inference_steps: int,
        guidance_scale: float,
        vae_scale_factor: int,
        format_version: int,
    ):
        super().__init__()
        check_format(format_version)
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

    @property
    def layout(self) -> Layout:
        """Return the default layout."""
        return Layout(tuple(self.config["grid"]), tuple(self.config["block"]), tuple(self.config["patch"]))

    @property
    def label_names(self) -> dict[int, str]:
        """Return the class names by class id."""
        return {int(index): name for index, name in self.config["id2label"].items()}

    @property
    def data_channels(self) -> int:
        """Return the number of channels of a pixel, or of a latent cell."""
        return self.transformer.config["in_channels"] // self.layout.patch_elements

    @property
    def pixel_channels(self) -> int:
        """Return the number of channels of a pixel, with or without an autoencoder."""
        return self.data_channels if self.vae is None else self.vae.config.in_channels

    @property
    def fast(self) -> dict[str, Any]:
        """Return arguments of a call at a quarter of the cost of 25 guided steps.

        The call takes eight steps per block, with guidance at the middle noise levels only. The Fréchet
        distance is no worse, as `acdit study sampling` measured on the model in the package; see docs/log.md.
        """
        return {
            "num_inference_steps": FAST_STEPS,
            "guidance_interval": middle_levels(self.scheduler, FAST_STEPS),
        }

    def label_ids(self, class_labels: ClassLabels) -> list[int | None]:
        """Return the class ids of labels that are given as ids or names; None stays None.

        Raises:
            UserError: if the model does not know a class.
        """
        names = {name: index for index, name in self.label_names.items()}
        count = self.transformer.config["num_classes"] or 0
        given: Any = class_labels.tolist() if isinstance(class_labels, Tensor | np.ndarray) else class_labels
        listed = list(given) if isinstance(given, Sequence) and not isinstance(given, str) else [given]
        if not listed:
            raise UserError("class_labels must name at least one class; None draws without one")
        ids: list[int | None] = []
        for label in listed:
            if label is None:
                ids.append(None)
                continue
            index = names.get(label, -1) if isinstance(label, str) else label
            if not isinstance(index, Integral) or not 0 <= int(index) < count:
                known = f"0..{count - 1}" if count else "none: the model is unconditional"
                some = f", or names such as {', '.join(list(names)[:3])}" if names else ""
                raise UserError(f"class_labels must be classes of the model, {known}{some}, not {label!r}")
            ids.append(int(index))
        return ids

    def _samples(
        self,
        class_labels: ClassLabels,
        per_label: int,
        generator: torch.Generator | Sequence[torch.Generator] | None,
    ) -> Samples:
        """Return the label of every sample, null where no class was requested, and its generator."""
        ids, null = self.label_ids(class_labels), self.transformer.config["num_classes"]
        generators = one_per_sample(generator, len(ids) * per_label)
        if all(label is None for label in ids):
            return Samples(None, generators)
        named = torch.tensor(
            [null if label is None else label for label in ids], device=self._execution_device
        )
        return Samples(named.repeat_interleave(per_label), generators)

    def _checked_output(self, output_type: str, reads_pixels: bool) -> None:
        """Raise UserError if the pipeline cannot produce the requested output."""
        if output_type not in OUTPUT_TYPES:
            raise UserError(f"output_type must be pil, np, pt or latent, not {output_type!r}")
        if self.vae is None and self.vae_scale_factor > 1 and (output_type != "latent" or reads_pixels):
            raise UserError(
                "the model draws latents and was kept without its autoencoder: give from_pretrained a vae, "
                "or ask for output_type latent"
            )

    def _steps(self, steps: int | Sequence[int] | None, layout: Layout) -> list[int]:
        """Return the number of solver steps of every block."""
        return steps_per_block(
            self.config["num_inference_steps"] if steps is None else steps, layout.num_blocks
        )

    def _guidance(self, scale: float | None, rising: bool, interval: tuple[float, float] | None) -> Guidance:
        return Guidance(self.config["guidance_scale"] if scale is None else scale, rising, interval)

    def _layout_for(
        self, height: int | None, width: int | None, block: Sequence[int] | None, before: Sequence[int] = ()
    ) -> Layout:
        """Return the layout for another size in pixels or another block size.

        `before` holds the number of tokens along each axis before height and width.
        """
        layout = self.layout
        rows, columns = layout.grid[-2:]
        grid = list(before)
        for name, pixels, tokens, patch in zip(
            ("height", "width"), (height, width), (rows, columns), layout.patch[-2:], strict=True
        ):
            edge = patch * self.vae_scale_factor
            if pixels is not None and (pixels < edge or pixels % edge):
                raise UserError(f"{name} must be a multiple of {edge} pixels, not {pixels}")
            grid.append(tokens if pixels is None else pixels // edge)
        return Layout(tuple(grid), self._block(block), layout.patch)

    def _block(self, block: Sequence[int] | None) -> tuple[int, ...]:
        """Check and return the tokens of a block along each axis; None = the model's own."""
        own = self.layout.block
        if block is None:
            return own
        if len(block) != len(own) or not all(isinstance(edge, Integral) and edge > 0 for edge in block):
            raise UserError(f"block must be {len(own)} positive numbers, such as {own}, not {block!r}")
        return tuple(block)

    def _initial(self, latents: Tensor, batch: int, layout: Layout) -> Tensor:
        """Check the caller's latents (N, C, *size) and return them as noise (N, T, B, C)."""
        wanted = (batch, self.data_channels, *layout.size)
        if not isinstance(latents, Tensor) or tuple(latents.shape) != wanted:
            found = tuple(latents.shape) if isinstance(latents, Tensor) else type(latents).__name__
            raise UserError(f"latents must be a tensor of shape {wanted}, not {found}")
        return layout.to_blocks(latents).to(self._execution_device)

    def _finished(
        self,
        request: Request,
        call: Callable[..., dict[str, Any]] | None = None,
        inputs: Sequence[str] = (),
    ) -> Iterator[Block]:
        """Yield every block of a request as soon as it is finished, with a progress bar."""
        unknown = set(inputs) - set(self._callback_tensor_inputs)
        if unknown:
            raise UserError(
                f"callback_on_step_end_tensor_inputs knows latents alone, not {', '.join(sorted(unknown))}"
            )
        tell = None if call is None else Callback(self, call, inputs, request)
        bar: Any = self.progress_bar
        with bar(total=sum(request.steps[request.start :])) as progress:

            def on_step(end: StepEnd) -> Tensor | None:
                progress.update()
                return None if tell is None else tell(end)

            yield from generate(
                self.transformer,
                request.layout,
                request.noise,
                scheduler=self.scheduler,
                steps=request.steps,
                labels=request.samples.labels,
                guidance=request.guidance,
                prefix=request.prefix,
                window=request.window,
                sinks=request.sinks,
                context_noise=request.context_noise,
                generators=request.samples.generators,
                on_step=on_step,
            )

    def _to_data(self, pixels: Tensor) -> Tensor:
        """Convert pixels in [-1, 1] to the value range that the network was trained on."""
        low, high = self.config["pixel_range"]
        return low + (high - low) * (pixels + 1) / 2

    def _to_pixels(self, data: Tensor) -> Tensor:
        """Convert data to pixels in [-1, 1], the inverse of `_to_data`."""
        low, high = self.config["pixel_range"]
        return 2 * (data.float() - low) / (high - low) - 1
