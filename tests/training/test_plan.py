"""Plans: costs against torch's counter and arithmetic by hand, and every check that can find a problem."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch.utils.flop_counter import FlopCounterMode

from acdit.cli.main import main
from acdit.cli.plan import PlanOptions
from acdit.data.latents import data_settings
from acdit.model import split_attention as split
from acdit.model.transformer import ACDiTTransformer
from acdit.training import checks
from acdit.training.build import build_model
from acdit.training.plan import Plan, make_plan
from acdit.training.recipes import load_recipe, recipe_names, recipe_values
from acdit.utils import resources
from acdit.utils.errors import UserError
from acdit.utils.settings import build

PUBLISHED = [name for name in recipe_names() if name.startswith(("imagenet256", "ucf101"))]
MILLIONS = {"b": 130.3, "l": 457.9, "xl": 674.9, "h": 951.0}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def plan(recipe: str, **values: Any) -> Plan:
    options = build(PlanOptions, recipe_values(recipe) | values)
    return make_plan(options, ranks=options.ranks, flops=options.flops)


def problems(made: Plan) -> dict[str, str]:
    return {check.subject: check.found for check in made.problems}


def test_all_published_runs_are_there():
    images = {f"imagenet256-{size}" for size in MILLIONS}
    assert set(PUBLISHED) == images | {"ucf101-h", "ucf101-xl"}


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_network_costs_what_torch_counts(name, monkeypatch):
    exact = split._groups
    monkeypatch.setattr(split, "_groups", lambda visibility, size: exact(visibility, 1))
    made = plan(name, **{"model.num_layers": 2})
    grid, block = ((32, 32), 256) if "imagenet" in name else ((16, 16, 16), 1024)
    channels = 4 if "imagenet" in name else 16
    size = made.network
    with torch.device("meta"):
        network = ACDiTTransformer(
            channels, grid, 2, size.hidden_size, size.num_heads, num_classes=size.num_classes
        )
        noised = torch.empty(1, 4, block, channels)
        inputs: dict[str, Any] = {"timestep": torch.empty(1, 4), "clean": noised[:, :3]}
        inputs["labels"] = torch.zeros(1, dtype=torch.long)
    (cost,) = made.layouts
    recipe = load_recipe(name)
    frames = () if recipe.data.frames is None else (recipe.data.frames,)
    layout = checks.build_layouts(recipe, (*frames, 32, 32))[0]
    network.set_attention_backend("split")
    with FlopCounterMode(display=False) as counter:
        network(noised, layout=layout, **inputs)
    assert cost.forward_flops == pytest.approx(counter.get_total_flops(), rel=0.01)
    assert (cost.blocks, cost.block_tokens, cost.sequence_length) == (4, block, 4 * block)
    assert cost.network_tokens == 7 * block
    assert made.parameters == sum(weight.numel() for weight in network.parameters())


@pytest.mark.parametrize("size", MILLIONS)
def test_published_parameters(size):
    assert plan(f"imagenet256-{size}").parameters / 1e6 == pytest.approx(MILLIONS[size], abs=0.06)


def test_arithmetic():
    made = plan("imagenet256-xl", ranks=256, flops=2e14)
    (cost,), count = made.layouts, made.parameters
    assert cost.training_flops == 3 * cost.forward_flops
    step = 1024 * 3 * cost.forward_flops
    assert made.step_flops == step
    assert made.total_flops == 1_200_000 * step
    assert made.hours == pytest.approx(1_200_000 * step / (256 * 2e14) / 3600)
    assert made.micro_batch == 4
    states = {"weights": 4, "gradients": 4, "optimizer": 8, "moving_average": 4}
    assert {name: getattr(made.ddp, name) for name in states} == {n: count * b for n, b in states.items()}
    for name in states:
        assert getattr(made.fsdp, name) == pytest.approx(getattr(made.ddp, name) / 256, rel=1e-6)
    assert made.ddp.bf16_weights == made.fsdp.bf16_weights == 2 * count
    assert made.ddp.activations == made.fsdp.activations == 4 * cost.activation_bytes
    assert made.ddp.total == 22 * count + 4 * cost.activation_bytes


def test_what_changes_the_costs():
    base = plan("imagenet256-b", ranks=256)
    assert plan("imagenet256-b", ranks=128).hours == pytest.approx(2 * (base.hours or 0))
    cut = plan("imagenet256-b", ranks=256, **{"training.accumulation": 2})
    assert (cut.step_flops, 2 * cut.ddp.activations) == (base.step_flops, base.ddp.activations)
    saving = plan("imagenet256-b", ranks=256, **{"training.gradient_checkpointing": True})
    assert saving.step_flops == pytest.approx(4 / 3 * (base.step_flops or 0))
    assert saving.ddp.activations < base.ddp.activations / 4
    wide = plan("imagenet256-b", ranks=256, **{"training.precision": "no"})
    assert wide.ddp.bf16_weights == 0 and wide.ddp.activations > base.ddp.activations
    drawn = plan("imagenet256-b", ranks=256, **{"diffusion.draws": 3, "diffusion.views": 2})
    assert drawn.layouts[0].network_tokens == (3 + 2 * 3) * 256


def test_several_layouts_cost_their_mean_and_hold_the_most():
    made = plan("mnist")
    assert [cost.blocks for cost in made.layouts] == [4, 1, 16]
    mean = sum(cost.training_flops for cost in made.layouts) / 3
    assert made.step_flops == pytest.approx(64 * mean)
    assert made.ddp.activations == 64 * max(cost.activation_bytes for cost in made.layouts)
    assert not made.problems and made.network.num_classes == 10


@pytest.mark.parametrize(
    ("recipe", "values", "subject", "words"),
    [
        ("mnist", {"layout.blocks": "3x3"}, "layout", ["3x3", "8x8"]),
        ("mnist", {"layout.patch": "5"}, "layout", ["layout.patch", "5"]),
        ("mnist", {"model.num_heads": "7"}, "heads", ["model.num_heads", "7"]),
        ("mnist", {"model.num_heads": "64"}, "heads", ["multiple of 4"]),
        ("mnist", {"ranks": "6", "training.accumulation": "4"}, "batch", ["24", "64"]),
        ("imagenet256-b", {"data.source": "./none"}, "data", ["data.source ./none", "give an existing path"]),
        ("imagenet256-b", {}, "latents", ["latents/imagenet256", "acdit encode"]),
    ],
)
def test_problems(recipe, values, subject, words):
    found = problems(plan(recipe, **values))[subject]
    for word in words:
        assert word in found


def test_a_source_that_is_a_file_or_an_empty_folder():
    Path("file").touch()
    Path("empty").mkdir()
    values = {"autoencoder.model": None, "layout.patch": 8}
    assert "is a file" in problems(plan("imagenet256-b", **values, **{"data.source": "./file"}))["data"]
    assert "is empty" in problems(plan("imagenet256-b", **values, **{"data.source": "./empty"}))["data"]


def test_a_hub_name_is_not_asked():
    made = plan("imagenet256-b")
    assert "data" not in problems(made)
    assert "not contacted" in next(check.found for check in made.checks if check.subject == "data")


def test_classes_are_counted_in_a_folder():
    for name in ("cat/a.png", "dog/deep/b.png", ".hidden/c.png"):
        Path("pets", name).parent.mkdir(parents=True)
        Path("pets", name).touch()
    Path("pets/nothing").mkdir()
    values = {"data.source": "./pets", "autoencoder.model": None}
    made = plan("imagenet256-b", **values)
    assert made.network.num_classes == 2
    assert "must be 2" in problems(made)["classes"]
    assert not problems(plan("imagenet256-b", **values, **{"data.num_classes": 2}))
    assert not problems(plan("imagenet256-b", **values, **{"data.num_classes": None}))


def test_loose_files_are_one_class_and_digits_ten():
    Path("loose").mkdir()
    Path("loose/a.png").touch()
    made = plan("imagenet256-b", **{"data.source": "./loose", "autoencoder.model": None})
    assert made.network.num_classes == 1
    assert "must be 10" in problems(plan("digits", **{"data.num_classes": 11}))["classes"]


def test_classes_that_nobody_knows_are_said():
    made = plan("imagenet256-b", **{"data.num_classes": None})
    assert made.network.num_classes is None
    assert any("data.num_classes" in text for text in made.assumed)


def test_latents_tell_their_shape_and_their_classes():
    folder = Path("latents/imagenet256")
    folder.mkdir(parents=True)
    names = [str(index) for index in range(1000)]
    source = {"data.source": "./none"}  # which encoding alone reads
    settings = {"data": data_settings(load_recipe("imagenet256-b", **source).data)}
    file = folder / "latents-00000.safetensors"
    save_file({name: torch.zeros(0).long() for name in ("label", "index")}, file)
    shard = {"file": file.name, "count": 0, "bytes": file.stat().st_size, "fingerprint": "0"}
    manifest = {"format_version": 1, "shape": [16, 16, 16], "label_names": names, "count": 0}
    manifest |= {"settings": settings, "shards": [shard], "mirrored": True}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    made = plan("imagenet256-b", **source)
    assert made.network.in_channels == 16 and made.layouts[0].blocks == 1
    assert not made.problems
    (folder / "manifest.json").write_text(json.dumps(manifest | {"label_names": names[:7]}))
    assert "must be 7" in problems(plan("imagenet256-b", **source))["classes"]
    assert "data.source" in problems(plan("imagenet256-b"))["latents"]
    (folder / "manifest.json").write_text("{")
    assert "damaged" in problems(plan("imagenet256-b", **source))["latents"]


def test_an_autoencoder_in_a_folder_tells_its_shape():
    Path("vae").mkdir()
    config = {"block_out_channels": [8, 8, 8], "latent_channels": 6}
    Path("vae/config.json").write_text(json.dumps(config))
    for model in ("vae", "."):  # the folder itself, or a pipeline's
        made = plan("imagenet256-b", **{"autoencoder.model": model})
        assert made.network.in_channels == 6
        assert made.layouts[0].sequence_length == (256 // 4) ** 2
        assert not made.assumed
    assert plan("imagenet256-b").assumed  # a name on the hub does not


def test_a_full_disk(monkeypatch):
    count = plan("digits").parameters
    needed = (
        3 * 4 * 4 * count
    )  # two checkpoints and one in the making; weights, average, two moments; float32
    for free, expected in ((needed - 1, True), (needed, False)):
        monkeypatch.setattr(
            resources.shutil, "disk_usage", lambda path, free=free: SimpleNamespace(free=free)
        )
        assert ("disk" in problems(plan("digits"))) == expected


def test_a_place_that_cannot_be_written():
    Path("file").touch()
    assert "file is not a folder" in problems(plan("digits", out="file/run"))["disk"]


def test_a_run_that_starts_from_a_model():
    shipped = Path(split.__file__).parents[1] / "pretrained" / "mnist"
    made = plan("mnist", **{"training.init_from": str(shipped), "model.num_layers": 1})
    assert made.network.num_layers == 6
    with pytest.raises(UserError, match=r"tokens of 16 values, but those of this recipe have 4"):
        plan("mnist", **{"training.init_from": str(shipped), "layout.patch": 2})


def test_commands_print_the_same_report(capsys):
    assert main(["plan", "digits", "--ranks", "2"]) == 0
    planned = capsys.readouterr().out
    assert main(["train", "digits", "--dry-run", "--ranks", "2"]) == 0
    assert capsys.readouterr().out == planned
    assert "DDP" in planned and "FSDP" in planned and "4e+14 FLOP/s" in planned
    assert "32 per forward pass on each of 2 ranks" in planned
    assert not list(Path().iterdir())


def test_problems_follow_the_report(capsys):
    assert main(["plan", "mnist", "--layout.blocks", "3x3", "--ranks", "3"]) == 2
    out, err = capsys.readouterr()
    assert "problem  layout" in out and "parameters" in out
    assert err.startswith("acdit: error: ") and err.count("\n") == 1 and "layout, batch" in err


def test_json(capsys):
    assert main(["plan", "ucf101-h", "--json", "--ranks", "96"]) == 2
    report = json.loads(capsys.readouterr().out)
    made = plan("ucf101-h", ranks=96)
    assert report["hours"] == made.hours and report["fsdp"]["total"] == made.fsdp.total
    assert report["layouts"][0]["layout"] == "grid 16x16x16, block 4x16x16, patch 1x2x2"
    assert [check["ok"] for check in report["checks"]] == [check.ok for check in made.checks]


def test_what_cannot_be_planned_is_one_line(capsys):
    assert main(["plan", "mnist", "--data.source", "somewhere"]) == 2
    out, err = capsys.readouterr()
    assert not out and "data.image_size" in err and err.count("\n") == 1


def test_training_refuses_another_number_of_classes():
    recipe = load_recipe("digits", data={"num_classes": 11})
    data: Any = SimpleNamespace(label_names=tuple("0123456789"), channels=1)
    with pytest.raises(UserError, match=r"data\.num_classes must be 10"):
        build_model(recipe, checks.build_layouts(recipe, (8, 8))[0], data)
