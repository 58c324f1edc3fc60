"""What networks of others answer is checked before it is used: tensors, rows, widths, finite numbers."""

from typing import Any

import pytest
import torch

from acdit.evaluation.features.extractor import checked_features
from acdit.evaluation.features.torchscript import TorchScriptFeatures
from acdit.utils.errors import UserError

CPU = torch.device("cpu")


class Pair(torch.nn.Module):
    def forward(self, clips: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return clips.flatten(1), clips


class Squeezed(torch.nn.Module):
    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        return clips.flatten(1).squeeze(0)


class Single(torch.nn.Module):
    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        return clips.mean()


class OneRow(torch.nn.Module):
    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        return clips.flatten(1)[:1]


class Growing(torch.nn.Module):
    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        return clips.flatten(1)[:, : 4 + clips.shape[0]]


class Divided(torch.nn.Module):
    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        return clips.flatten(1) / 0


class Empty(torch.nn.Module):
    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        return clips.flatten(1)[:, :0]


class Sparse(torch.nn.Module):
    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        return clips.flatten(1).to_sparse()


class Named(torch.nn.Module):
    def forward(self, clips: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"features": clips.flatten(1)}


@pytest.mark.parametrize(
    ("network", "count", "words"),
    [
        (Pair, 2, "not a tuple"),
        (Named, 2, "not a dict"),
        (Squeezed, 1, "one row of features for each of 1 samples"),
        (Single, 2, "not a single number"),
        (OneRow, 3, "for each of 3 samples"),
        (Growing, 9, "as many features for every batch: 5 follow 12"),
        (Divided, 2, "not finite"),
        (Empty, 2, "one row of features"),
        (Sparse, 2, "dense tensor"),
    ],
)
def test_an_answer_of_another_form_is_one_line(tmp_path, network, count, words):
    torch.jit.script(network()).save(str(tmp_path / "net.pt"))
    features = TorchScriptFeatures(tmp_path / "net.pt", CPU)
    with pytest.raises(UserError, match=words) as caught:
        features(torch.ones(count, 1, 2, 4, 4))
    assert str(tmp_path / "net.pt") in str(caught.value) and "\n" not in str(caught.value)


def test_the_width_is_the_same_in_every_call(tmp_path):
    torch.jit.script(Growing()).save(str(tmp_path / "net.pt"))
    features = TorchScriptFeatures(tmp_path / "net.pt", CPU)
    assert features(torch.ones(2, 1, 2, 4, 4)).values.shape == (2, 6)
    with pytest.raises(UserError, match="7 follow 6"):
        features(torch.ones(3, 1, 2, 4, 4))


def test_features_with_more_axes_are_flattened():
    output: Any = torch.arange(12, dtype=torch.float64).view(2, 3, 2, 1)
    assert torch.equal(checked_features(output, "net", 2), torch.arange(12.0).view(2, 6))


def test_what_is_no_file_is_not_waited_for(tmp_path):
    import os

    os.mkfifo(tmp_path / "pipe.pt")
    for path in (tmp_path / "pipe.pt", tmp_path, tmp_path / "none.pt"):
        with pytest.raises(UserError, match="cannot be loaded as TorchScript") as caught:
            TorchScriptFeatures(path, CPU)
        assert str(path) in str(caught.value)
