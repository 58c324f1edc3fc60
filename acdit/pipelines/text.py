"""ACDiTTextPipeline: prompts in, texts out, block by block by masked diffusion."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from ..data.tokenizers import FILE, ByteTokenizer, TextStream, Tokenizer, open_tokenizer
from ..diffusion.generate import Block, StepEnd, generate, steps_per_block
from ..diffusion.likelihood import text_nelbo
from ..diffusion.masked_schedulers import FirstHittingScheduler, MaskedScheduler
from ..diffusion.objective import SampleKey
from ..model.layout import Layout
from ..model.transformer import ACDiTTransformer
from ..utils.errors import UserError
from .block_pipeline import FORMAT_VERSION, BlockPipeline, check_format
from .canvas import Canvas
from .request import one_per_sample
from .text_outputs import ACDiTTextPipelineOutput, TextPiece, TextScores

OUTPUT_TYPES = ("text", "tokens")


class ACDiTTextPipeline(BlockPipeline):
    """Continues prompts, and fills in tokens, block by block.

    Rows of a batch advance through the same blocks, each with its own prompt, seed and end; what becomes of
    one does not depend on the others.

    Args:
        transformer: a network over token ids, the mask last.
        scheduler: see `acdit.unmasking`.
        tokenizer: None = bytes.
        grid: (L,), the longest text in tokens.
        block: (B,), tokens of a block.
        num_inference_steps: default of a call, for each block; None = as many as a block has tokens.
    """

    model_cpu_offload_seq = "transformer"
    _callback_tensor_inputs = ["tokens"]

    def __init__(
        self,
        transformer: ACDiTTransformer,
        scheduler: Any,
        tokenizer: Any = None,
        grid: list[int] | tuple[int, ...] = (1024,),  # of types that diffusers can check when it loads
        block: list[int] | tuple[int, ...] = (16,),
        num_inference_steps: int | None = None,
        format_version: int = FORMAT_VERSION,
    ):
        super().__init__()
        check_format(format_version)
        self.tokenizer: Tokenizer = ByteTokenizer() if tokenizer is None else tokenizer
        known = transformer.config["vocab_size"]
        if known != self.tokenizer.vocab_size:
            raise UserError(
                f"the tokeniser has {self.tokenizer.vocab_size} ids with the mask, the network {known}: they "
                "do not belong together"
            )
        if isinstance(scheduler, FirstHittingScheduler) and transformer.config["time_conditioning"]:
            raise UserError(
                "first hitting is for networks without time conditioning: take an AncestralScheduler"
            )
        self.register_modules(transformer=transformer, scheduler=scheduler)
        self.register_to_config(
            grid=tuple(grid),
            block=tuple(block),
            num_inference_steps=num_inference_steps,
            format_version=format_version,
        )

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, **kwargs: Any) -> Self:
        """Load as any diffusers pipeline, but never a pickle, with the tokeniser that lies beside it."""
        if "tokenizer" not in kwargs:
            file = Path(pretrained_model_name_or_path) / FILE
            if not file.exists():
                raise UserError(f"{pretrained_model_name_or_path} lacks {FILE}: give a tokenizer")
            kwargs["tokenizer"] = open_tokenizer(str(file))
        return super().from_pretrained(pretrained_model_name_or_path, **kwargs)

    def save_pretrained(self, save_directory: Any, *args: Any, **kwargs: Any) -> None:
        """Save as any diffusers pipeline, and the tokeniser beside it."""
        Path(save_directory).mkdir(parents=True, exist_ok=True)
        self.tokenizer.save(Path(save_directory) / FILE)
        super().save_pretrained(save_directory, *args, **kwargs)

    @property
    def layout(self) -> Layout:
        """The default layout."""
        return Layout(tuple(self.config["grid"]), tuple(self.config["block"]))

    @property
    def tokenizer_digest(self) -> str:
        return self.tokenizer.digest

    def default_steps(self, layout: Layout) -> list[int]:
        """Return the steps that a call takes for each block at most: one for each token, or fewer."""
        asked = self.config["num_inference_steps"] or layout.block_tokens
        return [min(asked, layout.block_tokens)] * layout.num_blocks

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | Sequence[str] | None = None,
        num_samples_per_prompt: int = 1,
        max_new_tokens: int | None = None,
        num_inference_steps: int | Sequence[int] | None = None,
        block: int | None = None,
        tokens: Tensor | None = None,
        temperature: float | None = None,
        top_p: float | None = None,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
        output_type: str = "text",
        return_dict: bool = True,
        callback_on_step_end: Callable[..., dict[str, Any]] | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("tokens",),
    ) -> Any:
        """Write texts: an `ACDiTTextPipelineOutput`, or a tuple where `return_dict` is false.

        Args:
            prompt: texts to continue, of any lengths; None = from nothing.
            num_samples_per_prompt: texts per prompt.
            max_new_tokens: after each prompt, at most; None = as many as fit.
            num_inference_steps: of every block, or one number for each; the model's default.
            block: tokens of a block; the model's default.
            tokens: in place of a prompt, (N, L) ids with the mask's wherever one is to be drawn.
            temperature, top_p: in place of the scheduler's.
            generator: one (it yields a seed per sample, in order) or one per sample.
            output_type: `text`, or `tokens`.
            return_dict: an output object, or the tuple (texts,).
            callback_on_step_end: called as (pipeline, step, timestep, tensors) after each step, counted over
                all blocks; `tokens` (N, L) are all tokens so far; those of the block that is drawn may be
                returned changed.
            callback_on_step_end_tensor_inputs: which tensors the callback gets; `tokens` is all there is.

        Raises:
            UserError: for an argument that does not fit the model.
        """
        if output_type not in OUTPUT_TYPES:
            raise UserError(f"output_type must be text or tokens, not {output_type!r}")
        canvas = self._canvas(prompt, num_samples_per_prompt, max_new_tokens, block, tokens)
        evaluations = 0
        for finished in self._finished(
            canvas,
            num_inference_steps,
            temperature,
            top_p,
            generator,
            callback_on_step_end,
            callback_on_step_end_tensor_inputs,
        ):
            evaluations += finished.evaluations
        rows: Any = [row[:limit].cpu() for row, limit in zip(canvas.tokens, canvas.limits, strict=True)]
        if output_type == "text":
            rows = [
                text + TextStream(self.tokenizer, row[:start].tolist()).add(row[start:].tolist(), last=True)
                for text, row, start in zip(canvas.prompts, rows, canvas.starts, strict=True)
            ]
        self.maybe_free_model_hooks()
        return ACDiTTextPipelineOutput(rows, evaluations) if return_dict else (rows,)

    @torch.no_grad()
    def stream(
        self,
        prompt: str | Sequence[str] | None = None,
        num_samples_per_prompt: int = 1,
        max_new_tokens: int | None = None,
        num_inference_steps: int | Sequence[int] | None = None,
        block: int | None = None,
        temperature: float | None = None,
        top_p: float | None = None,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
    ) -> Iterator[TextPiece]:
        """What a call with these arguments adds to its prompts, as blocks are finished."""
        canvas = self._canvas(prompt, num_samples_per_prompt, max_new_tokens, block, None)
        blocks = self._finished(canvas, num_inference_steps, temperature, top_p, generator)
        return self._pieces(canvas, blocks)

    @torch.no_grad()
    def _pieces(self, canvas: Canvas, blocks: Iterator[Block]) -> Iterator[TextPiece]:
        prompts = [row[:start].tolist() for row, start in zip(canvas.tokens, canvas.starts, strict=True)]
        streams = [TextStream(self.tokenizer, ids) for ids in prompts]
        evaluations = 0
        try:
            for finished in blocks:
                evaluations += finished.evaluations
                last = canvas.done(finished.index)
                new = [canvas.new(row, finished.index) for row in range(len(streams))]
                texts = [each.add(ids, last) for each, ids in zip(streams, new, strict=True)]
                yield TextPiece(texts, evaluations, sum(map(len, new)))
        finally:  # also where nobody asks for the rest
            self.maybe_free_model_hooks()

    def score(
        self,
        texts: str | Sequence[str],
        block: int | None = None,
        draws: int = 16,
        seed: int = 0,
        ends: bool = False,
    ) -> TextScores:
        """Log-likelihoods of texts: exact with blocks of 1, a lower bound with larger ones.

        The bound of blocks of up to 4 tokens is summed over all ways to mask them, that of larger ones
        estimated; of networks with time conditioning all are estimated.

        Args:
            texts: at most as long as the model's layout.
            block: tokens of a block; the model's default.
            draws: of each text, where it is estimated.
            seed: of the draws.
            ends: whether the end of a text counts too.

        Raises:
            UserError: for a text without tokens, one that is too long, or an argument that does not fit.
        """
        most, size = self.layout.num_tokens, self._block(block)
        if draws < 2:
            raise UserError(f"draws must be at least 2, for a standard error, not {draws}")
        listed = [texts] if isinstance(texts, str) else list(texts)
        ids = [self.tokenizer.encode(text) + [self.tokenizer.eos] * ends for text in listed]
        if not ids or not all(ids):
            raise UserError("texts must hold at least one token each")
        lengths = torch.tensor([len(each) for each in ids])
        if int(lengths.max()) > most:
            raise UserError(f"texts must have at most the model's {most} tokens, not {int(lengths.max())}")
        tokens = torch.full((len(ids), -(-int(lengths.max()) // size) * size), self.tokenizer.eos)
        for row, each in zip(tokens, ids, strict=True):
            row[: len(each)] = torch.tensor(each)
        found = text_nelbo(
            self.transformer,
            tokens.to(self._execution_device),
            lengths,
            Layout((tokens.shape[1],), (size,)),
            key=SampleKey(seed, [0] * len(ids), [0] * len(ids)),  # a text's draws are its own
            draws=draws,
            schedule=self.scheduler.config["schedule"],
        )
        errors = (
            found.std(1) / found.shape[1] ** 0.5 if found.shape[1] > 1 else torch.zeros(len(ids)).double()
        )
        self.maybe_free_model_hooks()
        return TextScores(-found.mean(1), errors, lengths)

    def _block(self, block: int | None) -> int:
        """The tokens of a block that were asked for, checked."""
        most, size = self.layout.num_tokens, self.layout.block_tokens if block is None else block
        if size < 1 or most % size:
            raise UserError(f"block must divide the model's {most} tokens; {size} does not")
        return size

    def _canvas(
        self,
        prompt: str | Sequence[str] | None,
        per_prompt: int,
        max_new: int | None,
        block: int | None,
        tokens: Tensor | None,
    ) -> Canvas:
        """Checked prompts as tokens, with masks up to where their texts may go."""
        most, size = self.layout.num_tokens, self._block(block)
        for name, value in (("num_samples_per_prompt", per_prompt), ("max_new_tokens", max_new)):
            if value is not None and value < 1:
                raise UserError(f"{name} must be at least 1, not {value}")
        if tokens is not None:
            if prompt is not None or max_new is not None:
                raise UserError("tokens stand for prompt and max_new_tokens: give them alone")
            return self._given(tokens, per_prompt, size)
        texts = [""] if prompt is None else [prompt] if isinstance(prompt, str) else list(prompt)
        if not texts:
            raise UserError("prompt must hold at least one text; None writes from nothing")
        ids = [self.tokenizer.encode(text) for text in texts for _ in range(per_prompt)]
        starts = [len(each) for each in ids]
        if max(starts) >= most:
            raise UserError(f"prompt must be shorter than the model's {most} tokens, not {max(starts)}")
        limits = [most if max_new is None else min(most, start + max_new) for start in starts]
        filled = torch.full((len(ids), -(-max(limits) // size) * size), self.tokenizer.mask)
        for row, (each, limit) in enumerate(zip(ids, limits, strict=True)):
            filled[row, : len(each)] = torch.tensor(each, dtype=torch.long)
            filled[row, -(-limit // size) * size :] = self.tokenizer.eos  # nobody asked for these
        layout = Layout((filled.shape[1],), (size,))
        prompts = [text for text in texts for _ in range(per_prompt)]
        canvas = filled.to(self._execution_device)
        return Canvas(canvas, prompts, starts, limits, layout, self.tokenizer, ends=True)

    def _given(self, tokens: Tensor, per_prompt: int, size: int) -> Canvas:
        """The canvas of given tokens; an end among them ends nothing."""
        most, mask = self.layout.num_tokens, self.tokenizer.mask
        if tokens.ndim != 2 or not tokens.numel() or tokens.shape[1] > most or tokens.is_floating_point():
            raise UserError(f"tokens must be ids (N, L) with L up to {most}, not {tuple(tokens.shape)}")
        if not 0 <= int(tokens.min()) <= int(tokens.max()) <= mask:
            raise UserError(f"tokens must be ids 0..{mask - 1}, or the mask, {mask}")
        rows = tokens.repeat_interleave(per_prompt, 0)
        count, length = rows.shape
        filled = torch.full((count, -(-length // size) * size), mask)
        filled[:, :length] = rows
        layout = Layout((filled.shape[1],), (size,))
        ends = [length] * count
        canvas, prompts = filled.to(self._execution_device), [""] * count
        return Canvas(canvas, prompts, [0] * count, ends, layout, self.tokenizer, ends=False)

    def _finished(
        self,
        canvas: Canvas,
        steps: int | Sequence[int] | None,
        temperature: float | None,
        top_p: float | None,
        generator: torch.Generator | Sequence[torch.Generator] | None,
        call: Callable[..., dict[str, Any]] | None = None,
        inputs: Sequence[str] = (),
    ) -> Iterator[Block]:
        """Every block until all samples have ended, put into the canvas, under a progress bar."""
        unknown = set(inputs) - set(self._callback_tensor_inputs)
        if unknown:
            raise UserError(
                f"callback_on_step_end_tensor_inputs knows tokens alone, not {', '.join(sorted(unknown))}"
            )
        layout = canvas.layout
        usual = self.config["num_inference_steps"] or layout.block_tokens
        chosen = usual if steps is None else steps
        counts = steps_per_block(chosen, layout.num_blocks)
        bar: Any = self.progress_bar
        with bar(total=layout.num_blocks) as progress:

            def on_step(end: StepEnd) -> Tensor | None:
                if call is None:
                    return None
                size = layout.block_tokens
                places = slice(end.block * size, (end.block + 1) * size)
                so_far = canvas.tokens.clone()
                so_far[:, places] = end.sample
                tensors = {"tokens": so_far} if inputs else {}
                returned = call(self, end.step, end.timestep, tensors).get("tokens")
                return None if returned is None else returned[:, places]

            for finished in generate(
                self.transformer,
                layout,
                canvas,
                scheduler=self._scheduler(temperature, top_p),
                steps=counts,
                generators=one_per_sample(generator, len(canvas.starts)),
                on_step=on_step,
            ):
                canvas.put(finished.index, finished.sample)
                progress.update()
                yield finished
                if canvas.done(finished.index):
                    return

    def _scheduler(self, temperature: float | None, top_p: float | None) -> MaskedScheduler:
        """The scheduler, with what a call says otherwise."""
        other = {"temperature": temperature, "top_p": top_p}
        named = {name: value for name, value in other.items() if value is not None}
        try:
            return type(self.scheduler).from_config(self.scheduler.config, **named)
        except ValueError as fault:
            raise UserError(str(fault)) from fault


ACDiTTextPipeline.__module__ = "acdit"  # saved files name this module, so that the code may move
