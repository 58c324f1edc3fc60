"""Measure every scheduler of diffusers with the digits model of the package: the table of docs/schedulers.md.

python docs/make_schedulers.py
"""

import inspect
import os
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch
from diffusers.schedulers.scheduling_consistency_decoder import ConsistencyDecoderScheduler
from torch import Tensor

from acdit.data.digits import digit_images
from acdit.diffusion.schedulers import LINEAR_BETAS, default_sampler
from acdit.diffusion.solver_checks import FLOW, FLOW_SCHEDULERS, OTHER_PROCESSES, OTHER_TASKS, check_solver
from acdit.evaluation.features.digit_classifier import load_digit_classifier
from acdit.generation.batches import Sampling, draw_images
from acdit.model.transformer import ACDiTOutput, ACDiTTransformer
from acdit.pipelines.image import ACDiTImagePipeline
from acdit.pipelines.loading import load_pipeline
from acdit.utils.errors import UserError

PAGE = Path(__file__).with_name("schedulers.md")
MARK = "<!-- made by python docs/make_schedulers.py -->\n"
STEPS = 25
PER_DIGIT = 5


class EpsilonView(ACDiTTransformer):
    """A flow network, read as a network that predicts the noise of DDPM's linear betas.

    x_t = a x + b noise is a + b times the point of the straight path at the time b / (a + b), and the
    velocity there gives the noise, so that both have the same samples.
    """

    def forward(self, noised: Tensor | None, timestep: Tensor | None = None, **arguments: Any) -> Any:
        """Return the predicted noise of views (N, M, B, C) at timesteps (N, M) in 0..999."""
        if noised is None or timestep is None:
            return super().forward(noised, timestep, **arguments)
        alphas = (
            1 - torch.linspace(LINEAR_BETAS["beta_start"], LINEAR_BETAS["beta_end"], 1000).double()
        ).cumprod(0)
        levels = ((1 - alphas) / alphas).sqrt().log()
        sigma = np.exp(np.interp(timestep.double().cpu(), np.arange(1000), levels))  # b / a
        sigma = torch.as_tensor(sigma).to(noised)[..., None, None]
        a = (1 + sigma.square()).rsqrt()
        time = sigma / (1 + sigma)
        point = noised / (a * (1 + sigma))
        velocity = super().forward(point, 1000 * time[..., 0, 0], **arguments).sample
        return ACDiTOutput(sample=point + (1 - time) * velocity)


@dataclass(frozen=True)
class Row:
    """One scheduler for one kind of network: its settings, or the reason why it is refused."""

    scheduler: Any = None
    settings: str = ""
    refusal: str = ""


def scheduler_names() -> list[str]:
    """Return the names of all schedulers of diffusers."""
    return sorted(
        {
            *(name for name in dir(diffusers) if name.endswith("Scheduler")),
            ConsistencyDecoderScheduler.__name__,
        }
    )


def row_of(name: str, prediction: str) -> Row:
    """Return the row of a scheduler for networks with a prediction, as `check_solver` judges it."""
    if name in OTHER_TASKS:
        return Row(refusal=f"not applicable: it {OTHER_TASKS[name]}")
    if name in OTHER_PROCESSES:
        return Row(refusal=f"refused: it {OTHER_PROCESSES[name]}")
    cls = getattr(diffusers, name)
    parameters = inspect.signature(cls.__init__).parameters
    wanted: dict[str, Any] = {"prediction_type": prediction, **({} if prediction == FLOW else LINEAR_BETAS)}
    wanted |= {"snr_shift_scale": 1.0} if prediction != FLOW else {"use_flow_sigmas": True}
    settings = {
        key: value for key, value in wanted.items() if key in parameters and parameters[key].default != value
    }
    if prediction == FLOW and name not in FLOW_SCHEDULERS and "use_flow_sigmas" not in parameters:
        return Row(refusal="refused: it has no flow prediction")
    scheduler = cls(**settings)
    try:
        check_solver(scheduler, {"prediction_type": prediction}, bounds=(-1.0, 1.0))
    except UserError as fault:
        return Row(refusal=f"refused: it {str(fault).partition('network: it ')[2]}")
    return Row(scheduler, ", ".join(f"{key}={value!r}" for key, value in settings.items()))


def pipelines() -> dict[str, ACDiTImagePipeline]:
    """Return the digits model by what it predicts: as it is, and read as a network of the noise."""
    pipe = load_pipeline("mnist", kind=ACDiTImagePipeline)
    config = {key: value for key, value in pipe.transformer.config.items() if not key.startswith("_")}
    view = EpsilonView(**config | {"prediction_type": "epsilon"}).eval()
    view.load_state_dict(pipe.transformer.state_dict())
    settings = {key: pipe.config[key] for key in ("grid", "block", "patch", "id2label")}
    noise = ACDiTImagePipeline(view, default_sampler("epsilon"), **settings)
    for each in (pipe, noise):
        each.set_progress_bar_config(disable=True)
    return {FLOW: pipe, "epsilon": noise}


def accuracy(pipe: ACDiTImagePipeline, scheduler: Any, classifier: Any, per_digit: int = PER_DIGIT) -> float:
    """Return the fraction of sampled digits that the classifier reads as requested."""
    pipe.scheduler = scheduler
    labels = [digit for digit in range(10) for _ in range(per_digit)]
    images = draw_images(pipe, labels, Sampling(steps=STEPS, batch=len(labels))).images
    return float((classifier.predict(2 * images - 1) == torch.tensor(labels)).float().mean())


def main() -> None:
    """Write the table into docs/schedulers.md."""
    models, classifier = pipelines(), load_digit_classifier(*digit_images("mnist"))
    lines = [
        "| scheduler | flow networks | accuracy | epsilon networks | accuracy |",
        "|---|---|---|---|---|",
    ]
    for name in scheduler_names():
        cells = []
        for prediction, pipe in models.items():
            row = row_of(name, prediction)
            settings = f" with `{row.settings}`" if row.settings else ""
            cells.append(row.refusal or f"works{settings}")
            cells.append("" if row.refusal else f"{accuracy(pipe, row.scheduler, classifier):.3f}")
        print(name, *cells, sep=" | ", flush=True)
        lines.append(f"| `{name}` | {' | '.join(cells)} |")
    machine = f"{platform.machine()}, {os.cpu_count()} cores, without GPU"
    machine += f", torch {torch.__version__}, diffusers {diffusers.__version__}"
    lines.append(f"\n{10 * PER_DIGIT} digits, {STEPS} steps per block, the model's guidance; {machine}.")
    prose = PAGE.read_text().partition(MARK)[0]
    PAGE.write_text(prose + MARK + "\n" + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
