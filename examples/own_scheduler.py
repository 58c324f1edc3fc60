"""Sample with a solver of your own: three methods, as of any diffusers scheduler.

    python examples/own_scheduler.py --label 3 --steps 20

The network in the package predicts flow: x_s = (1 - s) data + s noise at the noise level s, and its output is
noise - data. So a step of Euler's method is x + (next s - s) output. The timesteps are 1000 s. Every block
starts a fresh copy of the scheduler.
"""

import argparse
from collections.abc import Sequence

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.schedulers.scheduling_utils import SchedulerMixin, SchedulerOutput
from torch import Tensor

from acdit import ACDiTImagePipeline, load_pipeline
from acdit.media.images import picture_grid


class PowerEulerScheduler(SchedulerMixin, ConfigMixin):
    """Euler's method over noise levels (i / steps) ** power: a power above 1 takes small steps at the end."""

    @register_to_config
    def __init__(self, power: float = 2):
        self.set_timesteps(num_inference_steps=1)

    def set_timesteps(self, num_inference_steps: int, device: torch.device | str | None = None) -> None:
        """Start a block with this number of steps."""
        self.sigmas = torch.linspace(1, 0, num_inference_steps + 1, device=device) ** self.config["power"]
        self.timesteps = 1000 * self.sigmas[:-1]
        self._done = 0

    def step(self, model_output: Tensor, timestep: Tensor, sample: Tensor) -> SchedulerOutput:
        """Return the sample (N, B, C) at the next noise level."""
        self._done += 1
        difference = self.sigmas[self._done] - self.sigmas[self._done - 1]
        return SchedulerOutput(prev_sample=sample + difference * model_output)


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw from the same noise with the scheduler of the model and with two of your own."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--label", default="3")
    parser.add_argument("--steps", type=int, default=20, help="solver steps per block")
    parser.add_argument("--out", default="schedulers.png")
    options = parser.parse_args(arguments)

    pipe = load_pipeline("mnist", kind=ACDiTImagePipeline)
    pictures = []
    for scheduler in (pipe.scheduler, PowerEulerScheduler(power=1), PowerEulerScheduler(power=2)):
        pipe.scheduler = scheduler
        seed = torch.Generator().manual_seed(0)
        pictures += pipe(options.label, num_inference_steps=options.steps, generator=seed).images
    picture_grid(pictures, columns=3).save(options.out)


if __name__ == "__main__":
    main()
