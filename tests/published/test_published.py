"""Reading published checkpoints: nothing in them runs, and every wrong argument is named."""

import argparse
import os
import pickle
from pathlib import Path

import pytest
import torch

from acdit.model.layout import Layout
from acdit.published.format import PublishedArguments, read_checkpoint
from acdit.utils.errors import UserError

GOLDEN = Path(__file__).parents[1] / "golden"
IMAGE = {
    "model": "ACDiT-XL",
    "vae_latent_size": 4,
    "patch_size": 1,
    "block_size": 256,
    "ar_len": 4,
    "num_frames": 1,
    "image_size": 256,
    "vae_patch_pixels": 8,
    "nd_split": None,
    "square_block": True,
}
VIDEO = IMAGE | {"patch_size": 2, "num_frames": 16, "block_size": 1024, "square_block": False}


class Hostile:
    """Creates a file when it is unpickled by a reader that executes."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


class HostileArguments(argparse.Namespace):
    """Looks like arguments, and runs code as its state is set."""

    def __setstate__(self, state):
        Path(state["path"]).touch()


def _stored(**changes):
    weights = {"x_embedder.weight": torch.zeros(8, 4)}
    return {"model": weights, "ema": dict(weights), "args": argparse.Namespace(**IMAGE)} | changes


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("place", ["model", "args", "opt", "setstate", "key"])
def test_code_in_a_checkpoint_is_refused_and_does_not_run(tmp_path, place, zipped):
    mark = tmp_path / "executed"
    hostile = Hostile(mark)
    changes = {
        "model": {"model": {"x_embedder.weight": hostile}},
        "args": {"args": argparse.Namespace(**IMAGE, extra=hostile)},
        "opt": {"opt": {"state": {0: {"exp_avg": hostile}}}},
        "setstate": {"args": HostileArguments(path=str(mark))},
        "key": {"lrs": [{"deep": (1, [hostile])}]},
    }[place]
    path = tmp_path / "bad.pt"
    torch.save(_stored(**changes), path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(UserError, match="refused"):
        read_checkpoint(path)
    assert not mark.exists()
    if place == "opt":  # the trap is real: a reader that executes falls into it
        torch.load(path, weights_only=False)
        assert mark.exists()


def test_a_bare_pickle_is_refused(tmp_path):
    mark, path = tmp_path / "executed", tmp_path / "bad.pt"
    path.write_bytes(pickle.dumps(_stored(args=Hostile(mark))))
    with pytest.raises(UserError):
        read_checkpoint(path)
    assert not mark.exists()


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999])
def test_truncated_files_are_one_clear_error(tmp_path, share):
    whole = (GOLDEN / "published-img.pt").read_bytes()
    path = tmp_path / "cut.pt"
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(UserError, match=r"cut\.pt"):
        read_checkpoint(path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([1, 2], "lacks model or args"),
        ({"model": {}}, "lacks model or args"),
        (_stored(model=[1]), "state dict"),
        (_stored(model=None), "model must be a state dict"),
        (_stored(model={"a": 1.0}), "'a' is float"),
        (_stored(model={"a": torch.zeros(2, dtype=torch.int64)}), "'a' is Tensor"),
        (_stored(ema=3), "ema must be a state dict"),
        (_stored(args={"model": "x"}), "argparse.Namespace"),
    ],
    ids=str,
)
def test_foreign_files_are_named(tmp_path, content, words):
    path = tmp_path / "other.pt"
    torch.save(content, path)
    with pytest.raises(UserError, match=words):
        read_checkpoint(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match="not a file"):
        read_checkpoint(tmp_path / "none.pt")


def test_golden_arguments_weights_and_average():
    stored = read_checkpoint(GOLDEN / "published-img.pt")
    assert stored.arguments.layout() == Layout((8, 8), (4, 4))
    assert stored.ema is not None and all((tensor == 0.5).all() for tensor in stored.ema.values())
    assert not any((tensor == 0.5).all() for tensor in stored.model.values())


@pytest.mark.parametrize(
    ("stored", "layout"),
    [
        (IMAGE, Layout((32, 32), (16, 16))),
        (
            {name: value for name, value in IMAGE.items() if name != "square_block"},
            Layout((32, 32), (16, 16)),
        ),
        (IMAGE | {"block_size": 1024, "ar_len": 1, "square_block": False}, Layout((32, 32), (32, 32))),
        (VIDEO, Layout((16, 16, 16), (4, 16, 16), (1, 2, 2))),
        (
            {name: value for name, value in VIDEO.items() if name != "square_block"},
            Layout((16, 16, 16), (4, 16, 16), (1, 2, 2)),
        ),
        (
            VIDEO | {"block_size": 64, "ar_len": 64, "square_block": True},
            Layout((16, 16, 16), (1, 8, 8), (1, 2, 2)),
        ),
    ],
)
def test_layouts(stored, layout):
    assert PublishedArguments.read(argparse.Namespace(**stored)).layout() == layout


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"patch_size": "1"}, "args.patch_size must be a whole number"),
        ({"ar_len": True}, "args.ar_len must be a whole number"),
        ({"image_size": 0}, "args.image_size must be a whole number"),
        ({"num_frames": 2**40}, "args.num_frames must be a whole number"),
        ({"image_size": 250}, "args.image_size 250 must be a multiple"),
        ({"block_size": 200}, "args.block_size must be the size of square blocks, not 200"),
        ({"block_size": 100, "square_block": False}, "whole frames"),
        ({"ar_len": 5}, "args.ar_len 5 must be 4, the blocks"),
        ({"nd_split": "2-3"}, "args.nd_split"),
        ({"nd_split": [1, 1]}, "args.nd_split"),
        ({"square_block": "yes"}, "args.square_block"),
        ({"model": 7}, "args.model"),
        ({"other": torch.zeros(1)}, "args.other must be a plain value"),
    ],
    ids=str,
)
def test_every_argument_is_checked(changes, words):
    with pytest.raises(UserError, match=words):
        PublishedArguments.read(argparse.Namespace(**(IMAGE | changes))).layout()


def test_missing_arguments_are_named():
    with pytest.raises(UserError, match="args lacks vae_latent_size, patch_size"):
        PublishedArguments.read(argparse.Namespace(model="ACDiT-XL", block_size=1, ar_len=1))


@pytest.mark.parametrize(
    ("split", "widths"), [(None, (16, 24, 24)), ("2_3_3", (16, 24, 24)), ("2_1_1", (32, 16, 16))]
)
def test_rotary_shares(split, widths):
    arguments = PublishedArguments.read(argparse.Namespace(**(VIDEO | {"nd_split": split})))
    assert arguments.rope_split(64, 3) == widths
