"""ACDiTTextPipeline: continues prompts block by block with masked diffusion."""

from collections.abc import Iterator, Sequence
from itertools import compress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..data.tokenizers import FILE, ByteTokenizer, open_tokenizer
from ..diffusion.generate import Block, StepEnd, generate, steps_per_block
from ..diffusion.masked_schedulers import with_sampling
from ..model.layout import Layout
from ..model.transformer import ACDiTTransformer
from ..utils.checks import is_integer
from ..utils.errors import UserError
from .callbacks import Loop, StepFunction, TextCallback
from .canvas import Canvas, canvas_of_prompts, canvas_of_tokens
from .folders import tokenizer_beside
from .generators import Generators, one_per_sample
from .layouts import requested_text_layout
from .stored import checked_settings
from .stored_pipeline import FORMAT_VERSION, check_format
from .text_outputs import ACDiTTextPipelineOutput, TextPiece
from .text_pieces import text_pieces
from .text_request import TextRequest
from .text_scorer import TextScorer

OUTPUT_TYPES = ("text", "tokens")


class ACDiTTextPipeline(TextScorer):
    """Pipeline that continues prompts, and fills in masked tokens, block by block.

    The rows of a batch advance through the same blocks, each with its own prompt, seed and end. The result of
    a row does not depend on the other rows.

    Args:
        transformer: a network over token ids, of which the mask is the last.
        scheduler: a scheduler of `acdit.diffusion.masked_schedulers`.
        tokenizer: tokenizer of the texts; None = that of the saved pipeline of the network, or else bytes.
        grid: (L,), length of the longest text in tokens.
        block: (B,), number of tokens of a block.
        num_inference_steps: default number of steps per block; None = the number of tokens of a block.
        format_version: version of the format of saved pipelines.
        data_source: name of the data set that the network was trained on; None = not recorded.

    Example:
        ```python
        import acdit

        pipe = acdit.load_pipeline("shakespeare", kind=acdit.ACDiTTextPipeline)
        print(pipe("To be", max_new_tokens=16).texts[0])
        ```
    """

    model_cpu_offload_seq = "transformer"
    _callback_tensor_inputs = ["tokens"]

    def __init__(
        self,
        transformer: ACDiTTransformer,
        scheduler: Any,
        tokenizer: Any = None,
        grid: list[int] | tuple[int, ...] | None = None,  # types that diffusers can check when it loads
        block: list[int] | tuple[int, ...] | None = None,
        num_inference_steps: int | None = None,
        format_version: int = FORMAT_VERSION,
        data_source: str | None = None,
    ):
        super().__init__()
        check_format(format_version)
        self._check_layout(grid=grid, block=block)
        if tokenizer is None:
            tokenizer = tokenizer_beside(transformer.config) or ByteTokenizer()
        self.tokenizer = tokenizer
        vocab_size = transformer.config["vocab_size"]
        if vocab_size != self.tokenizer.vocab_size:
            raise UserError(
                f"the tokenizer does not fit the network: it has {self.tokenizer.vocab_size} ids including "
                f"the mask, the network has {vocab_size}"
            )
        settings = checked_settings(num_inference_steps=num_inference_steps, data_source=data_source)
        self.register_modules(transformer=transformer, scheduler=scheduler)
        self.register_to_config(
            grid=tuple(grid or ()), block=tuple(block or ()), format_version=format_version, **settings
        )
        self._check_solver()

    @classmethod
    def _add_parts(cls, folder: Path, kwargs: dict[str, Any]) -> None:
        """Add the tokenizer that is saved beside the pipeline."""
        if "tokenizer" not in kwargs:
            file = folder / FILE
            if not file.exists():
                raise UserError(f"{folder} has no {FILE}: pass a tokenizer")
            kwargs["tokenizer"] = open_tokenizer(str(file))

    def _save_parts(self, folder: Path) -> None:
        """Save the tokenizer beside the pipeline."""
        folder.mkdir(parents=True, exist_ok=True)
        self.tokenizer.save(folder / FILE)

    @property
    def layout(self) -> Layout:
        """Return the default layout."""
        return Layout(tuple(self.config["grid"]), tuple(self.config["block"]))

    @property
    def tokenizer_digest(self) -> str:
        """Return a hash of the tokenizer."""
        return self.tokenizer.digest

    def default_steps(self, layout: Layout) -> list[int]:
        """Return the default limit on the steps of each block: one step per token, or fewer."""
        steps = self.config["num_inference_steps"] or layout.block_tokens
        return [min(steps, layout.block_tokens)] * layout.num_blocks

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
        generator: Generators = None,
        output_type: str = "text",
        return_dict: bool = True,
        callback_on_step_end: StepFunction | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("tokens",),
    ) -> Any:
        """Generate texts.

        Args:
            prompt: texts to continue, of any lengths; None = start from an empty text.
            num_samples_per_prompt: number of texts per prompt.
            max_new_tokens: maximum number of tokens after each prompt; None = as many as fit.
            num_inference_steps: steps per block, one number for all blocks or one for each; default: the
                model's.
            block: tokens of a block; default: the model's.
            tokens: ids (N, L) in place of a prompt, with the mask's id wherever a token is to be generated.
                Their texts include what follows a given end token, up to an end after all given tokens.
            temperature: temperature of the sampling; default: the scheduler's.
            top_p: total probability of the most likely tokens that are sampled; default: the scheduler's.
            generator: one generator per sample, or one generator: it serves the first sample, and the seeds
                of the others depend on a number drawn from a copy of it.
            output_type: `text` or `tokens`.
            return_dict: whether to return an output object in place of the tuple (texts,).
            callback_on_step_end: function called as (pipeline, step, timestep, tensors) after each step;
                `step` counts over all blocks. The tensor `tokens` (N, L) holds all tokens so far; the
                function may return it with the tokens of the current block changed, or None. It may set
                `pipeline._interrupt = True`, which ends each text before its first masked token.
            callback_on_step_end_tensor_inputs: names of the tensors that the callback receives; only
                `tokens` is available.

        Returns:
            An `ACDiTTextPipelineOutput`, or a tuple if `return_dict` is false.

        Raises:
            UserError: if an argument does not fit the model.
        """
        request = self._request(
            prompt,
            num_samples_per_prompt,
            max_new_tokens,
            num_inference_steps,
            block,
            tokens,
            temperature,
            top_p,
            generator,
            callback_on_step_end,
            callback_on_step_end_tensor_inputs,
            output_type,
        )
        evaluations = sum(finished.evaluations for finished in self._finished(request))
        canvas = request.canvas
        rows: Any = [row[:limit].cpu() for row, limit in zip(canvas.tokens, canvas.limits, strict=True)]
        if output_type == "text":
            rows = [canvas.text(row) for row in range(len(rows))]
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
        generator: Generators = None,
        tokens: Tensor | None = None,
        callback_on_step_end: StepFunction | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("tokens",),
    ) -> Iterator[TextPiece]:
        """Stream the texts that a call with these arguments adds to its prompts, as blocks are finished.

        With `tokens`, the pieces hold the whole texts, with the given tokens. The arguments are checked
        immediately. A stream ends like a call if `pipeline._interrupt` is set, by a callback, between two
        pieces or by another thread: after the current step, or before the next block begins. If a block was
        begun, the last piece holds what stands before the first masked token of each text.
        """
        request = self._request(
            prompt,
            num_samples_per_prompt,
            max_new_tokens,
            num_inference_steps,
            block,
            tokens,
            temperature,
            top_p,
            generator,
            callback_on_step_end,
            callback_on_step_end_tensor_inputs,
        )
        return self._pieces(request)

    @torch.no_grad()
    def _pieces(self, request: TextRequest) -> Iterator[TextPiece]:
        try:
            yield from text_pieces(request.canvas, self._finished(request))
        finally:  # also if the caller stops before the end
            self.maybe_free_model_hooks()

    def check_inputs(
        self,
        prompt: str | Sequence[str] | None,
        num_samples_per_prompt: int,
        max_new_tokens: int | None,
        tokens: Tensor | None = None,
        output_type: str = "text",
    ) -> None:
        """Check arguments of a call that do not depend on the tokenizer; see `__call__`.

        Raises:
            UserError: if an argument is out of range, or excludes another one, or the scheduler does not fit.
        """
        self._check_solver()
        if output_type not in OUTPUT_TYPES:
            raise UserError(f"output_type must be text or tokens, not {output_type!r}")
        most = 1 if max_new_tokens is None else max_new_tokens
        for name, count in (("num_samples_per_prompt", num_samples_per_prompt), ("max_new_tokens", most)):
            if not is_integer(count) or count < 1:
                raise UserError(f"{name} must be a whole number of at least 1, not {count!r}")
        if tokens is not None and not isinstance(tokens, Tensor):
            raise UserError(f"tokens must be ids (N, L) in a tensor, not in a {type(tokens).__name__}")
        if tokens is not None and (prompt is not None or max_new_tokens is not None):
            raise UserError("tokens replace prompt and max_new_tokens: pass tokens alone")

    def prepare_tokens(
        self,
        prompt: str | Sequence[str] | None,
        num_samples_per_prompt: int,
        max_new_tokens: int | None,
        block: int | None,
        tokens: Tensor | None = None,
    ) -> Canvas:
        """Return the given tokens of every sample, with masks for the tokens to generate; see `__call__`.

        Raises:
            UserError: if the prompts or tokens do not fit the model, or the block does not fit the scheduler.
        """
        layout = requested_text_layout(self.layout, block)
        self.scheduler.check_block(layout.block_tokens)
        device = self._execution_device
        if tokens is not None:
            rows = tokens.repeat_interleave(num_samples_per_prompt, 0)
            return canvas_of_tokens(rows, layout, self.tokenizer, device)
        texts = [""] if prompt is None else [prompt] if isinstance(prompt, str) else list(prompt)
        prompts = [text for text in texts for _ in range(num_samples_per_prompt)]
        return canvas_of_prompts(prompts, max_new_tokens, layout, self.tokenizer, device)

    def _request(
        self,
        prompt: str | Sequence[str] | None,
        num_samples_per_prompt: int,
        max_new_tokens: int | None,
        steps: int | Sequence[int] | None,
        block: int | None,
        tokens: Tensor | None,
        temperature: float | None,
        top_p: float | None,
        generator: Generators,
        callback: StepFunction | None,
        callback_inputs: Sequence[str],
        output_type: str = "text",
    ) -> TextRequest:
        """Check the arguments of a call or a stream and return them as a request; see `__call__`."""
        self.check_inputs(prompt, num_samples_per_prompt, max_new_tokens, tokens, output_type)
        canvas = self.prepare_tokens(prompt, num_samples_per_prompt, max_new_tokens, block, tokens)
        layout = canvas.layout
        default = self.config["num_inference_steps"] or layout.block_tokens
        return TextRequest(
            canvas,
            steps_per_block(default if steps is None else steps, layout.num_blocks),
            with_sampling(self.scheduler, temperature, top_p),
            one_per_sample(generator, len(canvas.starts)),
            callback,
            self._callback_inputs(callback, callback_inputs),
        )

    def _finished(self, request: TextRequest) -> Iterator[Block]:
        """Yield every block until all samples have ended, and store it in the canvas, with a progress bar."""
        canvas, evaluations = request.canvas, 0
        after_step = None
        if request.callback is not None:
            after_step = TextCallback(self, request.callback, request.callback_inputs, canvas)

        def on_step(end: StepEnd) -> Tensor | None:
            changed = None if after_step is None else after_step(end)
            canvas.record(end.block, end.step - evaluations, end.sample if changed is None else changed)
            return changed

        masked = (canvas.tokens == self.tokenizer.mask).any(0).view(canvas.layout.num_blocks, -1).any(1)
        steps = sum(compress(request.steps, masked.tolist()))  # given blocks take no step
        bar: Any = self.progress_bar
        with bar(total=canvas.layout.num_blocks) as progress:
            blocks = generate(
                self.transformer,
                canvas.layout,
                canvas,
                scheduler=request.scheduler,
                steps=request.steps,
                generators=request.generators,
                on_step=on_step,
                interrupted=self._interrupted,
            )
            for finished in self._in_loop(Loop(steps), blocks):
                evaluations += finished.evaluations
                if self._interrupt:
                    canvas.cut(finished.index, finished.sample)
                else:
                    canvas.put(finished.index, finished.sample)
                progress.update()
                yield finished
                if canvas.done(finished.index):
                    return


ACDiTTextPipeline.__module__ = "acdit"  # saved files name this module, so that the code can be moved
