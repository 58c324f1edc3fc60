"""Runs of the benchmark's rows, in which this package and the published computation take turns."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..diffusion.generate import Guidance, generate
from ..diffusion.masked_schedulers import FirstHittingScheduler
from ..diffusion.schedulers import default_sampler
from ..model.attention import BACKENDS, Backend, attend, supports
from ..model.flops import Dimensions, forward_flops, sampling_flops, training_flops
from ..model.matmul_rate import MatmulRate
from ..model.sizes import SIZES
from ..model.skip_causal_mask import clean_visibility, view_visibility
from ..model.transformer import ACDiTTransformer
from ..training.config import OptimizerConfig
from ..training.learner import Learner, compile_blocks
from .baseline import Published
from .results import Contender, Result
from .roofline import (
    attention_flops,
    generation_flops,
    linear_products,
    published_sampling_flops,
    published_training_flops,
    score_products,
)
from .rows import Row
from .timing import Times, peak_bytes, time_alternately
from .uncached import generate_uncached

OURS, COMPILED, PUBLISHED, UNCACHED = "acdit", "compiled", "published", "uncached"


@dataclass(frozen=True)
class Bench:
    """Benchmark that measures rows with given settings.

    Attributes:
        repeats: number of measurements of each contender of a row.
        device: device that everything runs on.
        dtype: data type, float32 or bfloat16 (training: autocast over float32 weights).
        compile: whether training is also measured with compiled blocks.
    """

    repeats: int
    device: torch.device
    dtype: torch.dtype
    compile: bool = False

    def run(self, row: Row) -> list[Result]:
        """Measure a row; attention gives two results, without and with the backward pass."""
        if row.work == "train":
            return [self._train(row)]
        if row.work == "sample":
            return [self._sample(row)]
        if row.work == "text":
            return [self._text(row)]
        return self._attention(row)

    def _train(self, row: Row) -> Result:
        layout, network = row.tokens, self._network(row).train()
        published, sizes = Published(network), Dimensions.of(network.config)
        clean, noised, target = (self._random(row, index) for index in range(3))
        timestep = torch.arange(row.batch * layout.num_blocks, device=self.device) * 37 % 1000
        timestep = timestep.view(row.batch, layout.num_blocks).float()  # (N, T)
        labels = self._labels(row)
        networks = {OURS: network}
        if self.compile:
            networks[COMPILED] = copy.deepcopy(network)
            compile_blocks(networks[COMPILED])

        def predict(network: ACDiTTransformer) -> Tensor:
            return network(noised, timestep, layout=layout, clean=clean, labels=labels).sample

        predictions: dict[str, Callable[[], Tensor]] = {
            PUBLISHED: lambda: published.predict(noised, timestep, clean, labels, layout=layout),
            **{name: partial(predict, model) for name, model in networks.items()},
        }
        flops = dict.fromkeys(networks, row.batch * training_flops(sizes, layout))
        flops[PUBLISHED] = published_training_flops(sizes, layout, batch=row.batch)
        with torch.no_grad(), self._autocast():
            outputs = {name: predict() for name, predict in predictions.items()}
        steppers = {name: self._stepper(model, target) for name, model in networks.items()}
        steppers[PUBLISHED] = steppers[OURS]  # with the same weights
        steps = {name: partial(steppers[name], predict) for name, predict in predictions.items()}
        tokens = row.batch * layout.num_tokens
        rate = MatmulRate(
            linear_products(sizes, tokens) + linear_products(sizes, 2 * tokens), self.dtype, self.device
        )
        times, _ = time_alternately(steps, self.repeats, self.device, rate.measure)
        memory: dict[str, dict[str, int]] = {}
        for name, run in steps.items():
            run(keep_gradients=True)
            memory[name] = {"peak": peak_bytes(partial(run, keep_gradients=True), self.device)}
        return self._result(row, "training step", rate, outputs, times, flops, memory)

    def _stepper(self, network: ACDiTTransformer, target: Tensor) -> Callable[..., None]:
        """Return a training step, which takes the prediction function as its argument.

        The step uses the clipping, AdamW and moving average of the training loop. For measurements of memory
        it can keep the gradients' tensors, which then exist before and after the step.
        """
        learner = Learner(network, OptimizerConfig())

        def step(predict: Callable[[], Tensor], keep_gradients: bool = False) -> None:
            with self._autocast():
                loss = F.mse_loss(predict().float(), target)
            loss.backward()
            learner.clip()
            learner.update(learner.config.learning_rate)
            learner.optimizer.zero_grad(set_to_none=not keep_gradients)

        return step

    def _autocast(self) -> torch.autocast:
        """Return the autocast context of a training step."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.dtype == torch.bfloat16)

    def _sample(self, row: Row) -> Result:
        layout = row.tokens
        network = self._network(row).eval()
        nn.Module.to(network, self.dtype)  # diffusers' own `to` warns about casts
        published, sizes = Published(network), Dimensions.of(network.config)
        noise, labels = self._random(row, 0), self._labels(row)
        guided = row.guidance != 1
        common: dict[str, Any] = {
            "scheduler": default_sampler("epsilon"),
            "steps": row.steps,
            "labels": labels,
        }

        def ours() -> tuple[Tensor, int]:
            blocks = list(generate(network, layout, noise, guidance=Guidance(row.guidance), **common))
            cache = blocks[-1].cache
            return torch.stack([block.sample for block in blocks], 1), 0 if cache is None else cache.nbytes

        runs: dict[str, Callable[[], tuple[Tensor, int]]] = {
            PUBLISHED: lambda: published.generate(layout, noise, guidance=row.guidance, **common),
            OURS: ours,
        }
        facts = {"batch": row.batch, "steps": row.steps, "guided": guided}
        flops = {
            PUBLISHED: published_sampling_flops(sizes, layout, **facts),
            OURS: generation_flops(sizes, layout, labels=len(labels.unique()), **facts),
        }
        rows = row.batch * (2 if guided else 1) * layout.block_tokens
        rate = MatmulRate(linear_products(sizes, rows), self.dtype, self.device)
        times, results = time_alternately(runs, self.repeats, self.device, rate.measure)
        outputs = {name: samples for name, (samples, _) in results.items()}
        memory = {name: {"cache": cache} for name, (_, cache) in results.items()}
        return self._result(row, "sampling", rate, outputs, times, flops, memory)

    def _text(self, row: Row) -> Result:
        """Measure the generation of texts without prompts, with the cache and without."""
        layout, network = row.tokens, self._network(row).eval()
        nn.Module.to(network, self.dtype)  # diffusers' own `to` warns about casts
        sizes, mask = Dimensions.of(network.config), row.channels - 1
        shape = (row.batch, layout.num_blocks, layout.block_tokens)
        masked = torch.full(shape, mask, device=self.device)
        scheduler, steps = FirstHittingScheduler(mask_token=mask), row.steps or layout.block_tokens

        def ours(generators: list[torch.Generator]) -> Tensor:
            blocks = generate(
                network, layout, masked, scheduler=scheduler, steps=steps, generators=generators
            )
            return torch.stack([block.sample for block in blocks], 1)

        def uncached(generators: list[torch.Generator]) -> Tensor:
            return generate_uncached(network, layout, masked, scheduler, steps, generators)

        def seeded(write: Callable[[list[torch.Generator]], Tensor]) -> Tensor:
            return write([torch.Generator().manual_seed(index) for index in range(row.batch)]).double()

        runs = {name: partial(seeded, write) for name, write in ((UNCACHED, uncached), (OURS, ours))}
        evaluations = min(steps, layout.block_tokens)
        uncached_flops = sum(
            forward_flops(sizes, layout, blocks=(block,)) for block in range(layout.num_blocks)
        )
        counts = [evaluations] * layout.num_blocks
        flops = {
            UNCACHED: row.batch * evaluations * uncached_flops,
            OURS: row.batch * sampling_flops(sizes, layout, counts, guided=False),
        }
        block, sequence = (row.batch * tokens for tokens in (layout.block_tokens, layout.num_tokens))
        products = linear_products(sizes, block) + linear_products(sizes, sequence)
        rate = MatmulRate(products, self.dtype, self.device)
        times, outputs = time_alternately(runs, self.repeats, self.device, rate.measure)
        return self._result(
            row,
            f"text, {evaluations} evaluation{'s' * (evaluations > 1)} a block",
            rate,
            outputs,
            times,
            flops,
            {},
        )

    def _attention(self, row: Row) -> list[Result]:
        layout, size = row.tokens, SIZES[row.size]
        head_dim = size.hidden_size // size.num_heads
        past = layout.num_tokens - layout.block_tokens
        generator = torch.Generator().manual_seed(0)
        # In memory (N, tokens, H, D), as in the network; for the views and for the clean blocks.
        tensors = [
            torch.randn(row.batch, tokens, size.num_heads, head_dim, generator=generator)
            .to(self.device, self.dtype)
            .transpose(1, 2)
            for tokens in (*(layout.num_tokens,) * 3, *(past,) * 3)
        ]
        clean_seen = clean_visibility(layout.block_tokens, 0, layout.num_blocks - 1)
        views_see = view_visibility(layout.block_tokens, range(layout.num_blocks))

        def forward(backend: Backend, inputs: Sequence[Tensor]) -> list[Tensor]:
            query, key, value, clean_query, clean_key, clean_value = inputs
            clean = (clean_key, clean_value) if past else None
            outputs = [attend(query, clean, (key, value), views_see, backend)]
            if past:
                outputs.append(attend(clean_query, clean, None, clean_seen, backend))
            return outputs

        def forward_backward(backend: Backend) -> list[Tensor]:
            leaves = [tensor.detach().requires_grad_() for tensor in tensors]
            outputs = forward(backend, leaves)
            inputs, values = leaves if past else leaves[:3], [output.detach() for output in outputs]
            return [*values, *torch.autograd.grad(outputs, inputs, values)]

        sizes = Dimensions.of(self._config(row))
        results = []
        for backward in (False, True):
            runs: dict[str, Callable[[], list[Tensor]]] = {
                backend: partial(forward_backward, backend)
                if backward
                else partial(forward, backend, tensors)
                for backend in BACKENDS
                if supports(backend, self.device, backward)
            }
            flops = attention_flops(sizes, layout, batch=row.batch, backward=backward)
            rate = MatmulRate(score_products(sizes, layout, row.batch), self.dtype, self.device)
            times, results_by_name = time_alternately(runs, self.repeats, self.device, rate.measure)
            outputs_by_name = {
                name: torch.cat([part.flatten() for part in parts]) for name, parts in results_by_name.items()
            }
            measured = "attention, forward" + (" and backward" if backward else "")
            results.append(
                self._result(row, measured, rate, outputs_by_name, times, dict.fromkeys(runs, flops), {})
            )
        return results

    def _result(
        self,
        row: Row,
        measured: str,
        rate: MatmulRate,
        outputs: dict[str, Tensor],
        times: dict[str, Times],
        flops: dict[str, int] | dict[str, float],
        memory: dict[str, dict[str, int]],
    ) -> Result:
        first = next(iter(outputs.values()))
        contenders = tuple(
            Contender(
                name,
                times[name],
                flops[name],
                float((output - first).norm() / first.norm()),
                memory.get(name, {}),
            )
            for name, output in outputs.items()
        )
        return Result(row, measured, rate.best, contenders)

    def _config(self, row: Row) -> dict[str, Any]:
        """Return the network's config, with the published rotary embedding, which both computations share."""
        layout, size = row.tokens, SIZES[row.size]
        texts = row.work == "text"
        values = (
            {"vocab_size": row.channels} if texts else {"in_channels": row.channels * layout.patch_elements}
        )
        return {
            **size._asdict(),
            "in_channels": None,
            **values,
            "axis_lengths": layout.grid,
            "mlp_ratio": 4.0,
            "time_conditioning": not texts,
            "num_layers": row.layers or size.num_layers,
            "num_classes": None if texts else row.classes,
            "rope": "published",
        }

    def _network(self, row: Row) -> ACDiTTransformer:
        """Return a network whose zero parameters are replaced, because a fresh network outputs only zeros."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            network = ACDiTTransformer(**self._config(row))
            for parameter in network.parameters():
                if not parameter.any():
                    nn.init.normal_(parameter, std=0.02)
        nn.Module.to(network, self.device)
        return network

    def _random(self, row: Row, index: int) -> Tensor:
        """Return unit noise (N, T, B, C)."""
        layout = row.tokens
        channels = row.channels * layout.patch_elements
        shape = (row.batch, layout.num_blocks, layout.block_tokens, channels)
        return torch.randn(shape, generator=torch.Generator().manual_seed(index)).to(self.device)

    def _labels(self, row: Row) -> Tensor:
        return torch.arange(row.batch, device=self.device) % row.classes
