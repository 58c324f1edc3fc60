"""ACDiTVideoPipeline: encode -> generate -> decode for video of any length, streamed block by block."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, Unpack

import torch
from diffusers.video_processor import VideoProcessor
from torch import Tensor

from ..data.autoencoders import decode, encode
from ..diffusion.generate import Block, FrameNoise, slab_layout
from ..model.kv_cache import check_sinks
from ..model.layout import Layout, dims
from ..utils.errors import UserError
from .callbacks import StepFunction
from .generators import Generators
from .input_images import given_pixels
from .labels import ClassLabels, LabelsByBlock
from .pixel_pipeline import ACDiTPipeline
from .request import Request, SharedArguments
from .video_lengths import check_endless, frame_tokens
from .video_outputs import ACDiTVideoPipelineOutput, VideoPiece


class ACDiTVideoPipeline(ACDiTPipeline):
    """Pipeline that generates video of any length block by block from class labels, and continues clips.

    Args:
        transformer: the network.
        scheduler: any diffusers scheduler that matches what the network predicts.
        vae: any diffusers autoencoder of images, applied to each frame separately; None = the network works
            on pixels.
        grid: tokens of the default layout along each axis, (t, h, w); see `Layout`.
        block: tokens of a block along each axis, (t, h, w).
        patch: size of a token along each axis, (t, h, w), in frames and pixels, or in frames and latent cells
            if there is a vae.
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

        pipe = acdit.load_pipeline("moving-digits", kind=acdit.ACDiTVideoPipeline)
        frames = pipe([7], num_frames=8).frames[0]  # a list of PIL images
        frames[0].save("seven.gif", save_all=True, append_images=frames[1:])
        ```
    """

    samples_name = "videos"
    default_guidance_scale = 2.5

    @cached_property
    def video_processor(self) -> VideoProcessor:
        """Return the converter of tensors to frames."""
        return VideoProcessor(vae_scale_factor=self.vae_scale_factor, do_resize=False)

    @property
    def num_frames(self) -> int:
        """Return the number of frames of a clip in training."""
        return self.layout.size[0]

    @torch.no_grad()
    def __call__(
        self,
        class_labels: ClassLabels | LabelsByBlock = None,
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
        generator: Generators = None,
        latents: Tensor | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
        callback_on_step_end: StepFunction | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
        timesteps: Sequence[float] | None = None,
        sigmas: Sequence[float] | None = None,
        mu: float | None = None,
    ) -> Any:
        """Generate videos.

        Args:
            class_labels: ids or names of classes; None, alone or in a list = an unconditional video. An
                iterator yields them for one block after another, without those of the prefix, and is read
                just before a block begins: one label for all videos, or a list of one for each.
            num_videos_per_prompt: number of videos per label; of all videos, if labels are an iterator.
            num_inference_steps: solver steps per block, one number for all blocks or one for each; default:
                the model's.
            guidance_scale: scale of classifier-free guidance, 1 = none; default: the model's.
            guidance_rising: whether the guidance scale rises over the blocks, from 1 to `guidance_scale`.
            guidance_interval: lowest and highest sigma at which guidance is applied; None = all.
            height: height of the frames in pixels; default: the model's.
            width: width of the frames in pixels; default: the model's.
            num_frames: number of frames of the video, including the prefix; any number of whole blocks.
                Default: the model's.
            block: tokens of a block, (t, h, w); default: the model's.
            prefix: frames to continue, as far apart in time as those of training, one clip for all samples
                or one for each: a list of PIL images (or one list for each sample), an array
                ([N,] F, H, W, C) or a tensor ([N,] F, C, H, W) in [0, 1].
            window: number of previous blocks visible to each block. Default: all, or as many as in training
                if the video is longer than that. Memory does not grow beyond the window.
            sinks: number of first blocks that stay visible in addition to a window.
            context_noise: standard deviation of the noise on finished blocks that later blocks attend to,
                against drift.
            generator: one generator per sample, or one generator: it serves the first sample, and the seeds
                of the others depend on a number drawn from a copy of it.
            latents: initial noise (N, C, F, h, w), in place of noise from the generator.
            output_type: `pil`, `np`, `pt` or `latent`.
            return_dict: whether to return an output object in place of the tuple (frames,).
            callback_on_step_end: function called as (pipeline, step, timestep, tensors) after each solver
                step; `step` counts over all blocks. The tensor `latents` is the whole video so far; the
                function may return it with the current block changed, or None. It may set
                `pipeline._interrupt = True` to end the generation, and `pipeline._guidance_scale`. Callbacks
                of `diffusers.callbacks` name their tensors themselves.
            callback_on_step_end_tensor_inputs: names of the tensors that the callback receives: `latents`, or
                the names of `CONDITIONS`.
            timesteps: timesteps of every block in place of the scheduler's, the noisiest first, if the
                scheduler takes them. They hold for all blocks, in place of `num_inference_steps`.
            sigmas: noise levels of every block, likewise; not together with `timesteps`.
            mu: shift of the noise levels, for schedulers with `use_dynamic_shifting`.

        Returns:
            An `ACDiTVideoPipelineOutput`, or a tuple if `return_dict` is false.

        Raises:
            UserError: if an argument does not fit the model.
        """
        if num_frames == math.inf:
            raise UserError("a call returns all frames at once: num_frames=math.inf is for stream")
        request = self._video_request(
            class_labels,
            num_videos_per_prompt,
            num_frames,
            prefix,
            window,
            sinks,
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
        frames = self._decode(samples, output_type)
        self.maybe_free_model_hooks()
        return ACDiTVideoPipelineOutput(frames, evaluations, cache_bytes) if return_dict else (frames,)

    @torch.no_grad()
    def stream(
        self,
        class_labels: ClassLabels | LabelsByBlock = None,
        num_videos_per_prompt: int = 1,
        num_frames: float | None = None,
        prefix: Any = None,
        window: int | None = None,
        sinks: int = 0,
        context_noise: float = 0.0,
        **arguments: Unpack[SharedArguments],
    ) -> Iterator[VideoPiece]:
        """Stream the frames of a call after the prefix as they are finished, without keeping them.

        Memory therefore does not grow with the length of the video, unless a callback receives `latents`, the
        whole video: pass `callback_on_step_end_tensor_inputs=[]` to a callback that does not need them. The
        arguments are those of a call, except `return_dict`; they are checked immediately. With
        `num_frames=math.inf` the stream goes on until the caller stops.

        `class_labels` may be an iterator that decides on the class of a block just before it begins, which is
        when the caller asks for the next piece. Where all its labels are equal, the video is that of this
        label; the blocks before a change are those of the video without it.

        A stream ends like a call if `pipeline._interrupt` is set, by a callback, between two pieces or by
        another thread: after the current solver step, or before the next block begins. If blocks of some
        frames were begun, the last piece holds these frames as they were then; blocks that were not begun are
        grey, or decoded from zeros if there is an autoencoder.
        """
        return self._pieces(
            self._video_request(
                class_labels,
                num_videos_per_prompt,
                num_frames,
                prefix,
                window,
                sinks,
                context_noise,
                **arguments,
            )
        )

    @torch.no_grad()
    def _pieces(self, request: Request) -> Iterator[VideoPiece]:
        slab, evaluations = slab_layout(request.layout), 0
        blocks: list[Tensor] = []

        def piece(last: Block) -> VideoPiece:
            """Return the piece of the blocks of the same frames so far, and empty ones for the others."""
            whole = last.complete and len(blocks) == slab.num_blocks
            missing = [torch.full_like(blocks[0], self._empty_value)] * (slab.num_blocks - len(blocks))
            frames = self._decode(slab.from_blocks(torch.stack(blocks + missing, dim=1)), request.output_type)
            return VideoPiece(frames, evaluations, last.cache_bytes, whole)

        finished = None
        try:
            for finished in self._finished(request):
                blocks.append(finished.sample.float())
                evaluations += finished.evaluations
                if len(blocks) == slab.num_blocks:
                    yield piece(finished)
                    blocks.clear()
            if blocks and finished is not None:  # interrupted between the first and the last of these blocks
                yield piece(finished)
        finally:  # also if the caller stops before the end
            self.maybe_free_model_hooks()

    def _video_request(
        self,
        class_labels: ClassLabels | LabelsByBlock,
        num_videos_per_prompt: int,
        num_frames: float | None,
        prefix: Any,
        window: int | None,
        sinks: int,
        context_noise: float,
        **arguments: Unpack[SharedArguments],
    ) -> Request:
        """Check the arguments of a call or a stream and return them as a request; see `__call__`."""
        output_type, reads_pixels = arguments.get("output_type", "pil"), prefix is not None
        self.check_inputs(num_videos_per_prompt, output_type, reads_pixels, window, sinks, context_noise)
        if num_frames == math.inf:
            check_endless(arguments)
        num_frames = self.num_frames if num_frames is None else num_frames
        frames = frame_tokens(self.layout, num_frames, arguments.get("block"))
        request = self._request(class_labels, num_videos_per_prompt, [frames], **arguments)
        layout = request.layout
        if window is None and (sinks or layout.grid[0] > self.layout.grid[0]):
            trained = self.layout.grid[0] // layout.block[0] * slab_layout(layout).num_blocks
            window = max(1, trained - 1 - sinks)  # as many previous blocks as in training
        if sinks:
            check_sinks(layout, self.transformer.config)
        blocks = None if prefix is None else self._prefix(prefix, layout, len(request.samples))
        return replace(
            request,
            prefix=blocks,
            window=window,
            sinks=sinks,
            context_noise=context_noise,
            endless=num_frames == math.inf,
        )

    def _draw_noise(self, generators: Sequence[torch.Generator], layout: Layout) -> FrameNoise:
        seeds = [
            int(torch.randint(2**63 - 1, (), generator=generator, device=generator.device))
            for generator in generators
        ]
        return FrameNoise(seeds, layout, self.data_channels, self._execution_device)

    def _prefix(self, prefix: Any, layout: Layout, batch: int) -> Tensor:
        """Return the blocks of the frames to continue, for every sample: (N, K, B, C)."""
        pixels = given_pixels(prefix, "prefix", axes=4, channels=self.pixel_channels)
        pixels = pixels.transpose(1, 2)  # (1 or N, C, F, H, W)
        shape = (self.pixel_channels, *(size * self.vae_scale_factor for size in layout.size[1:]))
        channels, frames, *sides = pixels.shape[1:]
        if (channels, *sides) != shape:
            raise UserError(
                f"prefix must have frames of {dims(shape)} (channels x height x width), "
                f"not {dims((channels, *sides))}"
            )
        size = layout.block[0] * layout.patch[0]
        if frames % size or not size <= frames < layout.size[0]:
            raise UserError(
                f"prefix must have a multiple of {size} frames (one block) and fewer than num_frames, "
                f"{layout.size[0]}; it has {frames}"
            )
        if len(pixels) not in (1, batch):
            raise UserError(f"prefix must be one clip or {batch} clips (one per sample), not {len(pixels)}")
        data = self.to_data(pixels.to(self._execution_device))
        if self.vae is not None:
            data, _ = encode(self.vae, data)
        short = Layout((frames // layout.patch[0], *layout.grid[1:]), layout.block, layout.patch)
        return short.to_blocks(data.float()).expand(batch, -1, -1, -1)

    def _decode(self, latents: Tensor, output_type: str) -> Any:
        """Decode latents (N, C, F, h, w) to frames of an output type."""
        if output_type == "latent":
            return latents
        if self.vae is not None:
            latents = decode(self.vae, latents)
        return self.video_processor.postprocess_video(self._to_pixels(latents), output_type=output_type)


ACDiTVideoPipeline.__module__ = "acdit"  # saved files name this module, so that the code can be moved
