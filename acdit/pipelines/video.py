"""ACDiTVideoPipeline: encode -> generate -> decode for video of any length, streamed block by block."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from diffusers.utils.outputs import BaseOutput
from diffusers.video_processor import VideoProcessor
from torch import Tensor

from ..data.autoencoders import decode, encode
from ..diffusion.generate import FrameNoise
from ..model.kv_cache import check_sinks
from ..model.layout import Layout, dims
from ..model.transformer import ACDiTTransformer
from ..utils.errors import UserError
from .block_pipeline import FORMAT_VERSION
from .input_images import given_pixels
from .pixel_pipeline import ACDiTPipeline, ClassLabels
from .request import Request


@dataclass
class ACDiTVideoPipelineOutput(BaseOutput):
    """What the pipeline made, and what it took.

    Attributes:
        frames: a list of PIL images for each video, or an array (N, F, H, W, C) or tensor (N, F, C, H, W) in
            [0, 1], or latents (N, C, F, h, w); the prefix included.
        evaluations: calls of the network.
        cache_bytes: bytes of the key-value cache of the batch; 0 for a layout of one block.
    """

    frames: Any
    evaluations: int
    cache_bytes: int


@dataclass(frozen=True)
class Piece:
    """Frames that are finished together, as blocks side by side are.

    Attributes:
        frames: as in `ACDiTVideoPipelineOutput`.
        evaluations, cache_bytes: so far.
    """

    frames: Any
    evaluations: int
    cache_bytes: int


class ACDiTVideoPipeline(ACDiTPipeline):
    """Generates video block by block from class labels, of any length, and continues clips.

    Args:
        transformer: the network.
        scheduler: any diffusers scheduler for what the network predicts.
        vae: any diffusers autoencoder of images, for each frame by itself; None = the network works on
            pixels.
        grid, block, patch: the default layout (t, h, w), see `Layout`; patch in frames and pixels, or latent
            cells where there is a vae.
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
        grid: list[int] | tuple[int, ...] = (8, 8, 8),  # of types that diffusers can check when it loads
        block: list[int] | tuple[int, ...] = (2, 8, 8),
        patch: list[int] | tuple[int, ...] = (1, 1, 1),
        id2label: dict[int, str] | dict[str, str] | None = None,
        pixel_range: list[float] | tuple[float, ...] = (-1.0, 1.0),
        num_inference_steps: int = 25,
        guidance_scale: float = 2.5,
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
        self.video_processor = VideoProcessor(vae_scale_factor=self.vae_scale_factor, do_resize=False)

    @property
    def num_frames(self) -> int:
        """Frames of a clip, as in training."""
        return self.layout.size[0]

    @torch.no_grad()
    def __call__(
        self,
        class_labels: ClassLabels = None,
        num_videos_per_prompt: int = 1,
        num_inference_steps: int | Sequence[int] | None = None,
        guidance_scale: float | None = None,
        guidance_rising: bool = False,
        guidance_interval: tuple[float, float] | None = None,
        height: int | None = None,
        width: int | None = None,
        num_frames: int | None = None,
        block: Sequence[int] | None = None,
        prefix: Any = None,
        window: int | None = None,
        sinks: int = 0,
        context_noise: float = 0.0,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
        latents: Tensor | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
        callback_on_step_end: Callable[..., dict[str, Any]] | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
    ) -> Any:
        """Generate videos: an `ACDiTVideoPipelineOutput`, or a tuple where `return_dict` is false.

        Args:
            class_labels: ids or names of classes; None, alone or in a list = an unconditional video.
            num_videos_per_prompt: videos per label.
            num_inference_steps: solver steps per block, one number or one for each block; the model's
                default.
            guidance_scale: classifier-free guidance; the model's default, 1 = none.
            guidance_rising: whether guidance rises over the blocks from 1 to its scale.
            guidance_interval: lowest and highest sigma at which guidance acts; None = all.
            height, width: of the frames in pixels; the model's default.
            num_frames: of the video, the prefix included; the model's default. Any number of whole blocks.
            block: tokens of a block, (t, h, w); the model's default.
            prefix: frames to continue, as far apart in time as those of training, one clip for all samples
                or one for each: a list of PIL images (or one for each sample), an array ([N,] F, H, W, C) or
                a tensor ([N,] F, C, H, W) in [0, 1].
            window: blocks that a block sees behind itself; when left out all, or as many as in training
                where the video is longer than that. Memory does not grow beyond it.
            sinks: first blocks that stay visible besides, where there is a window.
            context_noise: standard deviation of noise on finished blocks that others are to see, against
                drift.
            generator: one (it yields a seed per sample, in order) or one per sample.
            latents: noise (N, C, F, h, w) to start from, in place of what the generator would draw.
            output_type: `pil`, `np`, `pt` or `latent`.
            return_dict: an output object, or the tuple (frames,).
            callback_on_step_end: called as (pipeline, step, timestep, tensors) after each solver step,
                counted over all blocks; `latents` is the whole video so far, and may be returned with the
                block at hand changed.
            callback_on_step_end_tensor_inputs: which tensors the callback gets; `latents` is all there is.

        Raises:
            UserError: for an argument that does not fit the model.
        """
        request = self._request(
            class_labels,
            num_videos_per_prompt=num_videos_per_prompt,
            num_inference_steps=num_inference_steps,
            guidance_scale=guidance_scale,
            guidance_rising=guidance_rising,
            guidance_interval=guidance_interval,
            height=height,
            width=width,
            num_frames=num_frames,
            block=block,
            prefix=prefix,
            window=window,
            sinks=sinks,
            context_noise=context_noise,
            generator=generator,
            latents=latents,
            output_type=output_type,
        )
        finished = list(self._finished(request, callback_on_step_end, callback_on_step_end_tensor_inputs))
        blocks = [] if request.prefix is None else [request.prefix]
        blocks += [block.sample.float()[:, None] for block in finished]
        frames = self._decode(request.layout.from_blocks(torch.cat(blocks, dim=1)), output_type)
        self.maybe_free_model_hooks()
        if not return_dict:
            return (frames,)
        evaluations, cache = sum(block.evaluations for block in finished), finished[-1].cache
        return ACDiTVideoPipelineOutput(frames, evaluations, 0 if cache is None else cache.nbytes)

    @torch.no_grad()
    def stream(
        self,
        class_labels: ClassLabels = None,
        *,
        output_type: str = "pil",
        **arguments: Any,
    ) -> Iterator[Piece]:
        """The frames of a call after the prefix, as they are finished; nothing of them is kept.

        So memory stays the same however long the video. Arguments are those of a call, but for
        `return_dict` and callbacks, and are checked at once.
        """
        return self._pieces(self._request(class_labels, output_type=output_type, **arguments), output_type)

    @torch.no_grad()
    def _pieces(self, request: Request, output_type: str) -> Iterator[Piece]:
        slab = _slab(request.layout)
        held: list[Tensor] = []
        evaluations = 0
        try:
            for finished in self._finished(request):
                held.append(finished.sample.float())
                evaluations += finished.evaluations
                if len(held) == slab.num_blocks:
                    frames = self._decode(slab.from_blocks(torch.stack(held, dim=1)), output_type)
                    cache = finished.cache
                    yield Piece(frames, evaluations, 0 if cache is None else cache.nbytes)
                    held.clear()
        finally:  # also where nobody asks for the rest
            self.maybe_free_model_hooks()

    def _request(
        self,
        class_labels: ClassLabels,
        *,
        output_type: str,
        num_videos_per_prompt: int = 1,
        num_inference_steps: int | Sequence[int] | None = None,
        guidance_scale: float | None = None,
        guidance_rising: bool = False,
        guidance_interval: tuple[float, float] | None = None,
        height: int | None = None,
        width: int | None = None,
        num_frames: int | None = None,
        block: Sequence[int] | None = None,
        prefix: Any = None,
        window: int | None = None,
        sinks: int = 0,
        context_noise: float = 0.0,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
        latents: Tensor | None = None,
    ) -> Request:
        """What a call or a stream asks for, checked; see `__call__`."""
        layout = self._video_layout(height, width, num_frames, block)
        if num_videos_per_prompt < 1:
            raise UserError(f"num_videos_per_prompt must be at least 1, not {num_videos_per_prompt}")
        whole = isinstance(sinks, int) and isinstance(window, int | None)
        if not whole or not 0 <= context_noise < math.inf or sinks < 0 or (window is not None and window < 1):
            raise UserError(
                "window must be a number from 1, sinks and context_noise from 0, "
                f"not {window}, {sinks} and {context_noise}"
            )
        self._checked_output(output_type, reads_pixels=prefix is not None)
        if window is None and (sinks or layout.grid[0] > self.layout.grid[0]):
            trained = self.layout.grid[0] // layout.block[0] * _slab(layout).num_blocks
            window = max(1, trained - 1 - sinks)  # as far back as a block of training sees
        if sinks:
            check_sinks(layout, self.transformer.config["rope"])
        samples = self._samples(class_labels, num_videos_per_prompt, generator)
        if latents is None:
            seeds = [
                int(torch.randint(2**63 - 1, (), generator=source, device=source.device))
                for source in samples.generators
            ]
            noise = FrameNoise(seeds, layout, self.data_channels, self._execution_device)
        else:
            noise = self._initial(latents, len(samples), layout)
        return Request(
            samples,
            layout,
            self._steps(num_inference_steps, layout),
            self._guidance(guidance_scale, guidance_rising, guidance_interval),
            noise,
            None if prefix is None else self._prefix(prefix, layout, len(samples)),
            window,
            sinks,
            context_noise,
        )

    def _video_layout(
        self, height: int | None, width: int | None, num_frames: int | None, block: Sequence[int] | None
    ) -> Layout:
        layout = self.layout
        wanted = self.num_frames if num_frames is None else num_frames
        block = self._block(block)
        frames = block[0] * layout.patch[0]
        if wanted < frames or wanted % frames:
            raise UserError(f"num_frames must be a multiple of {frames}, a block's, not {wanted}")
        return self._layout_for(height, width, block, [wanted // layout.patch[0]])

    def _prefix(self, prefix: Any, layout: Layout, batch: int) -> Tensor:
        """The blocks of the frames to continue, for every sample: (N, K, B, C)."""
        pixels = given_pixels(prefix, "prefix", axes=4, channels=self.pixel_channels)
        pixels = pixels.transpose(1, 2)  # (1 or N, C, F, H, W)
        wanted = (self.pixel_channels, *(edge * self.vae_scale_factor for edge in layout.size[1:]))
        channels, frames, *edges = pixels.shape[1:]
        if (channels, *edges) != wanted:
            raise UserError(
                f"prefix must be of frames {dims(wanted)} (channels x height x width), "
                f"not {dims((channels, *edges))}"
            )
        size = layout.block[0] * layout.patch[0]
        if frames % size or not size <= frames < layout.size[0]:
            raise UserError(
                f"prefix must have a multiple of {size} frames, a block's, and fewer than num_frames "
                f"{layout.size[0]}; it has {frames}"
            )
        if len(pixels) not in (1, batch):
            raise UserError(f"prefix must be one clip, or one for each of {batch} samples, not {len(pixels)}")
        data = self._to_data(pixels.to(self._execution_device))
        if self.vae is not None:
            data, _ = encode(self.vae, data)
        short = Layout((frames // layout.patch[0], *layout.grid[1:]), layout.block, layout.patch)
        return short.to_blocks(data.float()).expand(batch, -1, -1, -1)

    def _decode(self, latents: Tensor, output_type: str) -> Any:
        """Frames of latents (N, C, F, h, w)."""
        if output_type == "latent":
            return latents
        if self.vae is not None:
            latents = decode(self.vae, latents)
        return self.video_processor.postprocess_video(self._to_pixels(latents), output_type=output_type)


def _slab(layout: Layout) -> Layout:
    """The blocks that lie side by side in the same frames."""
    return Layout((layout.block[0], *layout.grid[1:]), layout.block, layout.patch)


ACDiTVideoPipeline.__module__ = "acdit"  # saved files name this module, so that the code may move
