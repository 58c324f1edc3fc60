"""What tests of the continuous objective share: closed forms, and a network that keeps what it is asked."""

from types import SimpleNamespace
from typing import Any

import torch

from acdit.diffusion.continuous import DiffusionObjective
from acdit.diffusion.objective import SampleKey
from acdit.model.layout import Layout
from tests.tiny import TINY, tiny_inputs

NULL = TINY["num_classes"]
LAYOUT = Layout((4, 4), (2, 2))
PREDICTIONS = ["epsilon", "v", "flow"]


def share_of_data(timesteps):
    """sqrt(alpha bar) of the linear betas, in float64, by the definition."""
    kept = torch.ones(1001, dtype=torch.float64)
    for step in range(1000):
        kept[step] = kept[step - 1] * (1 - (1e-4 + (0.02 - 1e-4) * step / 999)) if step else 1 - 1e-4
    return kept[timesteps.long()].sqrt()


class Recorder:
    """A network that keeps what it was asked and answers what it is told."""

    def __init__(self, answer=lambda noised, timestep: torch.zeros_like(noised)):
        self.answer = answer

    def __call__(self, noised, timestep, *, layout, blocks, clean, labels) -> Any:
        self.noised, self.timestep, self.layout = noised, timestep, layout
        self.blocks, self.clean, self.labels = blocks, clean, labels
        return SimpleNamespace(sample=self.answer(noised, timestep))


def key_of(batch, seed=0, epoch=0):
    return SampleKey(seed, [epoch] * batch, list(range(batch)))


def asked(objective=None, data=None, **options):
    """What the network is asked for a batch."""
    data = tiny_inputs(LAYOUT).clean if data is None else data
    network = Recorder()
    objective = objective or DiffusionObjective()
    objective.loss(network, data, **({"layout": LAYOUT, "key": key_of(len(data))} | options))
    return network


def perfect(prediction, data):
    """The target, worked out from the noised data and the data, in float64."""

    def answer(noised, timestep):
        x, x_t = data.double(), noised.double()
        if prediction == "flow":
            return ((x_t - x) / (timestep.double() / 1000)[..., None, None]).to(noised)
        kept = share_of_data(timestep)[..., None, None]
        added = (1 - kept**2).sqrt()
        noise = (x_t - kept * x) / added
        return (noise if prediction == "epsilon" else kept * noise - added * x).to(noised)

    return answer
