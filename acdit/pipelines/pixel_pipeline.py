"""ACDiTPipeline: the base class of the image and video pipelines; turns a request into finished blocks."""

import math
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from functools import partial
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from ..diffusion.generate import Block, StepEnd, checked_steps, generate
from ..diffusion.timesteps import Spacing, middle_levels, number_of_timesteps
from ..model.layout import Layout
from ..model.token_head import GeneratorNetwork
from ..utils.checks import is_integer
from ..utils.errors import UserError
from .block_pipeline import BlockPipeline
from .callbacks import CONDITIONS, Callback, LiveGuidance, Loop, StepFunction
from .generators import Generators, one_per_sample
from .labels import BlockLabels, ClassLabels, LabelsByBlock, ids_of_labels, label_tensor
from .layouts import requested_layout
from .pixel_model import PixelModel, checked_scale_factor
from .request import Noise, Request, Samples
from .stored import checked_settings
from .stored_pipeline import FORMAT_VERSION, check_format

FAST_STEPS = 8
OUTPUT_TYPES = ("pil", "np", "pt", "latent")


class ACDiTPipeline(PixelModel, BlockPipeline):
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
        data_source: name of the data set that the network was trained on; None = not recorded.
    """

    model_cpu_offload_seq = "transformer->vae"
    _optional_components = ["vae"]
    _callback_tensor_inputs = ["latents", *CONDITIONS]

    samples_name: str  # plural noun in the name of the argument that counts samples per label
    default_guidance_scale: float

    def __init__(
        self,
        transformer: GeneratorNetwork,
        scheduler: Any,
        vae: Any = None,
        grid: list[int] | tuple[int, ...] | None = None,  # types that diffusers can check when it loads
        block: list[int] | tuple[int, ...] | None = None,
        patch: list[int] | tuple[int, ...] | None = None,
        id2label: dict[int, str] | dict[str, str] | None = None,
        pixel_range: list[float] | tuple[float, ...] = (-1.0, 1.0),
        num_inference_steps: int = 25,
        guidance_scale: float | None = None,
        vae_scale_factor: int = 1,
        format_version: int = FORMAT_VERSION,
        data_source: str | None = None,
    ):
        super().__init__()
        check_format(format_version)
        self._check_layout(grid=grid, block=block, patch=patch)
        if transformer.config["in_channels"] is None:
            raise UserError("the network is over token ids: use ACDiTTextPipeline")
        layout = Layout(tuple(grid or ()), tuple(block or ()), tuple(patch or ()))
        transformer.check_layout(layout)
        channels = transformer.config["in_channels"] // layout.patch_elements
        vae_scale_factor = checked_scale_factor(vae, channels, vae_scale_factor)
        settings = checked_settings(
            transformer.config["num_classes"],
            id2label={str(index): name for index, name in (id2label or {}).items()},
            pixel_range=pixel_range,
            num_inference_steps=num_inference_steps,
            guidance_scale=self.default_guidance_scale if guidance_scale is None else guidance_scale,
            vae_scale_factor=vae_scale_factor,
            data_source=data_source,
        )
        self.register_modules(transformer=transformer, scheduler=scheduler, vae=vae)
        self.register_to_config(
            grid=layout.grid,
            block=layout.block,
            patch=layout.patch,
            format_version=format_version,
            **settings,
        )
        self.vae_scale_factor = vae_scale_factor
        self._check_solver()

    @property
    def _data_bounds(self) -> tuple[float, float] | None:
        low, high = self.config["pixel_range"]
        return (low, high) if self.vae is None and self.vae_scale_factor == 1 else None

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
        """Return the class ids of labels; None stays None.

        A text is the name of a class, or its id if no class has that name; an int is an id.

        Raises:
            UserError: if the model does not know a class.
        """
        return ids_of_labels(class_labels, self.label_names, self.transformer.config["num_classes"] or 0)

    def check_inputs(
        self,
        samples_per_label: int,
        output_type: str,
        reads_pixels: bool,
        window: int | None = None,
        sinks: int = 0,
        context_noise: float = 0.0,
    ) -> None:
        """Check arguments that do not depend on the layout.

        Args:
            samples_per_label: number of samples per label.
            output_type: `pil`, `np`, `pt` or `latent`.
            reads_pixels: whether the call continues an image or a clip.
            window: number of previous blocks visible to each block; None = all.
            sinks: number of first blocks that stay visible beyond the window.
            context_noise: standard deviation of the noise on finished blocks that later blocks attend to.

        Raises:
            UserError: if the pipeline cannot generate such samples.
        """
        if not is_integer(samples_per_label) or samples_per_label < 1:
            name = f"num_{self.samples_name}_per_prompt"
            raise UserError(f"{name} must be a whole number of at least 1, not {samples_per_label!r}")
        if output_type not in OUTPUT_TYPES:
            raise UserError(f"output_type must be pil, np, pt or latent, not {output_type!r}")
        if self.vae is None and self.vae_scale_factor > 1 and (output_type != "latent" or reads_pixels):
            raise UserError(
                "the model generates latents and was saved without its autoencoder: convert it again with "
                "--vae, or in Python pass vae= to from_pretrained, or use output_type='latent'"
            )
        whole = all(map(is_integer, (sinks, 1 if window is None else window)))
        whole = whole and isinstance(context_noise, Real)
        if not whole or not 0 <= context_noise < math.inf or sinks < 0 or (window is not None and window < 1):
            raise UserError(
                "window must be a whole number from 1, sinks one from 0, and context_noise a number from 0, "
                f"not {window}, {sinks} and {context_noise}"
            )

    def prepare_latents(
        self, generators: Sequence[torch.Generator], layout: Layout, latents: Tensor | None = None
    ) -> Noise:
        """Return the initial noise of every block.

        Args:
            generators: generator of each sample; one that several samples share draws their noise in order.
            layout: layout of the samples.
            latents: noise (N, C, *size) in place of noise from the generators.

        Raises:
            UserError: if `latents` has another shape.
        """
        if latents is None:
            return self._draw_noise(generators, layout)
        shape = (len(generators), self.data_channels, *layout.size)
        if not isinstance(latents, Tensor):
            raise UserError(f"latents must be a tensor of shape {shape}, not {type(latents).__name__}")
        if tuple(latents.shape) != shape:
            raise UserError(f"latents must be a tensor of shape {shape}, not {tuple(latents.shape)}")
        if not latents.is_floating_point():
            raise UserError(f"latents must hold floating-point numbers, not {latents.dtype}")
        return layout.to_blocks(latents).to(self._execution_device)

    def _noise_sources(self, generator: Generators, samples: Samples) -> list[torch.Generator]:
        """Return the generator that draws the initial noise of every sample, given that of the call."""
        del generator  # each sample draws from its own
        return samples.generators

    @abstractmethod
    def _draw_noise(self, generators: Sequence[torch.Generator], layout: Layout) -> Noise:
        """Draw the initial noise of every sample from its generator."""

    def _request(
        self,
        class_labels: ClassLabels | LabelsByBlock,
        samples_per_label: int,
        frames: Sequence[int] = (),
        *,
        num_inference_steps: int | Sequence[int] | None = None,
        timesteps: Sequence[float] | None = None,
        sigmas: Sequence[float] | None = None,
        mu: float | None = None,
        guidance_scale: float | None = None,
        guidance_rising: bool = False,
        guidance_interval: tuple[float, float] | None = None,
        height: int | None = None,
        width: int | None = None,
        block: Sequence[int] | None = None,
        generator: Generators = None,
        latents: Tensor | None = None,
        output_type: str = "pil",
        callback_on_step_end: StepFunction | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
    ) -> Request:
        """Return the arguments of a call as a request; see `ACDiTImagePipeline.__call__`.

        `frames` holds the number of tokens along the axis before height and width, if there is one.
        """
        layout = requested_layout(self.layout, height, width, block, frames, scale=self.vae_scale_factor)
        self.transformer.check_layout(layout)
        samples = self._samples(class_labels, samples_per_label, generator)
        self._check_solver()
        spacing = Spacing(timesteps, sigmas, mu)
        steps = spacing.step_counts(num_inference_steps, self.config["num_inference_steps"])
        scale = self.config["guidance_scale"] if guidance_scale is None else guidance_scale
        return Request(
            samples,
            layout,
            checked_steps(steps, layout.num_blocks),
            LiveGuidance(scale, guidance_rising, guidance_interval, self),
            self.prepare_latents(self._noise_sources(generator, samples), layout, latents),
            output_type,
            spacing,
            callback_on_step_end,
            self._callback_inputs(callback_on_step_end, callback_on_step_end_tensor_inputs),
        )

    def _samples(
        self, class_labels: ClassLabels | LabelsByBlock, per_label: int, generator: Generators
    ) -> Samples:
        """Return the label of every sample, null where no class was requested, and its generator."""
        null, device = self.transformer.config["num_classes"], self._execution_device
        if isinstance(class_labels, Iterator):
            if self.transformer.context_sees_labels:
                raise UserError(
                    "the class cannot change from block to block, because the past that this model sees "
                    "depends on it: give one class for all blocks"
                )
            labels = BlockLabels(class_labels, per_label, self.label_ids, null, device)
            return Samples(labels, one_per_sample(generator, per_label))
        ids = [label for label in self.label_ids(class_labels) for _ in range(per_label)]
        return Samples(label_tensor(ids, null, device), one_per_sample(generator, len(ids)))

    def _generated(self, request: Request) -> tuple[Tensor, int, int]:
        """Generate all blocks of a request.

        Returns:
            The samples (N, C, *size) with the prefix, the number of network calls, and the size of the
            key-value cache in bytes.
        """
        finished = list(self._finished(request))
        blocks = self._empty_blocks(request)
        for block in finished:
            blocks[:, block.index] = block.sample.float()
        samples = request.layout.from_blocks(blocks)
        return samples, sum(block.evaluations for block in finished), finished[-1].cache_bytes

    def _empty_blocks(self, request: Request) -> Tensor:
        """Return blocks (N, T, B, C) with the prefix of a request; the others are grey, or 0 in latents."""
        layout, channels = request.layout, self.transformer.config["in_channels"]
        shape = (len(request.samples), layout.num_blocks, layout.block_tokens, channels)
        blocks = torch.full(shape, self._empty_value, device=self._execution_device)
        if request.prefix is not None:
            blocks[:, : request.start] = request.prefix
        return blocks

    @property
    def _empty_value(self) -> float:
        """Return the value of blocks that are not generated: grey, or 0 in latents."""
        return 0.0 if self.vae is not None else sum(self.config["pixel_range"]) / 2

    def _finished(self, request: Request) -> Iterator[Block]:
        """Yield every block of a request as soon as it is finished, with a progress bar."""
        after_step = self._after_step(request)
        bar: Any = self.progress_bar
        labels, drawn = request.samples.labels, range(request.start, request.layout.num_blocks)
        total = number_of_timesteps(self.scheduler, request.steps, drawn, request.spacing)
        loop = Loop(total, request.guidance.scale, guided=labels is not None)
        with bar(total=math.inf if request.endless else total) as progress:

            def on_step(end: StepEnd) -> Tensor | None:
                progress.update()
                return None if after_step is None else after_step(end)

            blocks = generate(
                self.transformer,
                request.layout,
                request.noise,
                scheduler=self.scheduler,
                steps=request.steps,
                spacing=request.spacing,
                labels=labels,
                guidance=request.guidance,
                prefix=request.prefix,
                window=request.window,
                sinks=request.sinks,
                context_noise=request.context_noise,
                generators=request.samples.generators,
                on_step=on_step,
                interrupted=self._interrupted,
            )
            yield from self._in_loop(loop, blocks)

    def _after_step(self, request: Request) -> Callback | None:
        """Return the caller's function with what it receives; None if there is none."""
        if request.callback is None:
            return None
        canvas = request.initial_samples() if "latents" in request.callback_inputs else None
        labels = partial(request.samples.current_labels, self._execution_device)
        return Callback(self, request.callback, request.callback_inputs, request.layout, canvas, labels)

    def to_data(self, pixels: Tensor) -> Tensor:
        """Convert pixels in [-1, 1] to the value range that the network was trained on."""
        low, high = self.config["pixel_range"]
        return low + (high - low) * (pixels + 1) / 2

    def _to_pixels(self, data: Tensor) -> Tensor:
        """Convert data to pixels in [-1, 1], the inverse of `to_data`."""
        low, high = self.config["pixel_range"]
        return 2 * (data.float() - low) / (high - low) - 1
