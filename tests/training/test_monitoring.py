"""What a run tells while it goes on, and what a changed command may change."""

import json
import math

import pytest
import torch

from acdit.model.flops import Dimensions, training_flops
from acdit.pipelines.image import ACDiTImagePipeline
from acdit.training.log import cut_log, read_log
from acdit.training.loop import train
from acdit.training.run import Run
from acdit.utils.errors import UserError
from tests.processes import on_ranks
from tests.training.small import advance, all_state, small_recipe, unequal

WEIGHTS = "transformer/diffusion_pytorch_model.safetensors"


def entries(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def test_the_log_holds_the_mean_loss_between_entries(tmp_path):
    results = list(Run(small_recipe(tmp_path / "watched", training={"steps": 7})).steps())
    train(small_recipe(tmp_path / "run", training={"steps": 7, "log_every": 3}))
    logged = entries(tmp_path / "run")
    assert [entry["step"] for entry in logged] == [3, 6, 7]
    losses = [result.loss for result in results]
    means = [sum(losses[:3]) / 3, sum(losses[3:6]) / 3, losses[6]]
    assert [entry["loss"] for entry in logged] == pytest.approx(means, rel=1e-12)
    at = [results[step - 1] for step in (3, 6, 7)]
    assert [entry["gradient_norm"] for entry in logged] == [result.gradient_norm for result in at]
    assert [entry["learning_rate"] for entry in logged] == [result.learning_rate for result in at]


def test_throughput_counts_images_and_the_models_flops(tmp_path):
    recipe = small_recipe(tmp_path, training={"steps": 4, "log_every": 4})
    train(recipe)
    (entry,) = entries(tmp_path)
    run = Run(recipe)
    of_a_sample = training_flops(Dimensions.of(run.network_config), run.layouts[0])
    assert entry["flops_per_second"] / entry["images_per_second"] == pytest.approx(of_a_sample)
    assert 0 < entry["matmul_share"] < 1
    assert 1e7 < entry["memory_bytes"] < 1e11


def test_a_resumed_run_goes_on_with_its_log(tmp_path):
    """What was noted after the checkpoint is noted again, once; half a line of a killed run goes."""
    changes = {"steps": 6, "checkpoint_every": 3, "log_every": 1}
    run = Run(small_recipe(tmp_path, training=changes))
    advance(run, 3)
    run.save()
    noted = "".join(json.dumps({"step": step, "loss": 9.0}) + "\n" for step in range(1, 6))
    (tmp_path / "log.jsonl").write_text(noted + '{"step": 6, "lo')
    train(small_recipe(tmp_path, training=changes))
    assert [entry["step"] for entry in entries(tmp_path)] == [1, 2, 3, 4, 5, 6]
    assert [entry["loss"] == 9.0 for entry in entries(tmp_path)] == [True] * 3 + [False] * 3
    assert [entry["step"] for entry in read_log(tmp_path).steps] == [1, 2, 3, 4, 5, 6]


def test_lines_that_are_no_entries_are_dropped(tmp_path):
    (tmp_path / "log.jsonl").write_text('{"step": 1}\n[]\nnull\n{}\n{"step": 2}\n{"step": 3}\n')
    cut_log(tmp_path / "log.jsonl", 2)
    assert [entry["step"] for entry in entries(tmp_path)] == [1, 2]


def test_a_changed_recipe_goes_on_when_it_is_allowed_to(tmp_path, capsys):
    run = Run(small_recipe(tmp_path / "run"))
    advance(run, 2)
    run.save()
    changed = small_recipe(tmp_path / "run", optimizer={"learning_rate": 2e-2, "clip": 0.5})
    with pytest.raises(UserError, match=r"learning_rate was 0.01 and is 0.02.*--allow-changes"):
        train(changed)
    capsys.readouterr()
    assert train(changed, allow_changes=True) == tmp_path / "run" / "pipeline"
    said = capsys.readouterr().err
    assert (
        "optimizer.learning_rate was 0.01 and is 0.02" in said and "optimizer.clip was 1.0 and is 0.5" in said
    )


@pytest.mark.parametrize("changes", [{"model.num_layers": 2}, {"layout.patch": 1}])
def test_a_network_of_another_shape_is_never_allowed(tmp_path, changes):
    run = Run(small_recipe(tmp_path / "run"))
    run.save()
    with pytest.raises(UserError, match=f"another network; differences: {next(iter(changes))} was"):
        train(small_recipe(tmp_path / "run", **changes), allow_changes=True)


def test_another_number_of_threads_is_said(tmp_path, capsys):
    threads = torch.get_num_threads()
    run = Run(small_recipe(tmp_path / "run"))
    run.save()
    assert run.changes == [] and Run(small_recipe(tmp_path / "run")).changes == []
    try:
        torch.set_num_threads(threads + 1)
        train(small_recipe(tmp_path / "run"))
    finally:
        torch.set_num_threads(threads)
    assert f"threads were {threads} and are {threads + 1}" in capsys.readouterr().err


def test_trackers_work_in_a_process_that_did_nothing_else(tmp_path):
    """accelerate's state is global: a test before this one may have made it."""
    on_ranks(train_with_tensorboard, 1, tmp_path / "run")
    assert len(list((tmp_path / "run").rglob("*tfevents*"))) == 1


def train_with_tensorboard(folder):
    return train(small_recipe(folder, training={"trackers": ["tensorboard"]}))


def test_a_tracker_that_is_not_installed_is_refused_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "wandb", None)
    with pytest.raises(UserError, match=r"pip install 'acdit\[wandb\]'"):
        train(small_recipe(tmp_path / "run", training={"trackers": ["wandb"]}))
    assert not (tmp_path / "run").exists()


def test_extras_of_the_objective_reach_it(tmp_path):
    """Each alone changes the loss of a network that has learned something; both are off by default."""
    losses = []
    for extra in ({}, {"context_noise": 0.5}, {"min_snr": 5.0}):
        changes = {"diffusion": {"prediction": "epsilon", **extra}, "optimizer": {"learning_rate": 0.05}}
        run = Run(small_recipe(tmp_path / str(len(losses)), **changes))
        losses.append([result.loss for result in advance(run, 4)])
    assert all(math.isfinite(loss) for held in losses for loss in held)
    assert len({held[-1] for held in losses}) == 3


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    train(small_recipe(folder, training={"steps": 2}))
    return folder


@pytest.mark.parametrize("label_table", [False, True])
def test_adapters_alone_learn_and_the_export_is_a_plain_pipeline(trained, tmp_path, label_table):
    pytest.importorskip("peft")
    lora = {"rank": 2, "label_table": label_table}
    training = {"init_from": str(trained), "steps": 4}
    first = Run(small_recipe(tmp_path / "stopped", training=training, lora=lora))
    kinds = {"lora" if "lora_" in name else name for name in first.learner.names}
    assert kinds == {"lora"} | ({"y_embedder.embedding_table.weight"} if label_table else set())
    before = all_state(first)
    advance(first, 2)
    first.save()
    changed = {name for name in unequal(before, all_state(first)) if name.startswith("model.")}
    assert changed and all("lora_" in name or "y_embedder" in name for name in changed)
    second = Run(small_recipe(tmp_path / "stopped", training=training, lora=lora))
    advance(second, 2)
    straight = Run(small_recipe(tmp_path / "straight", training=training, lora=lora))
    advance(straight, 4)
    assert unequal(all_state(second), all_state(straight)) == []
    second.save()

    path = train(small_recipe(tmp_path / "stopped", training=training, lora=lora))
    assert path is not None
    pipeline = ACDiTImagePipeline.from_pretrained(path)
    base = ACDiTImagePipeline.from_pretrained(trained / "pipeline").transformer.state_dict()
    exported = pipeline.transformer.state_dict()
    assert exported.keys() == base.keys()
    assert not torch.equal(exported["blocks.0.attn.qkv.weight"], base["blocks.0.attn.qkv.weight"])
    assert torch.equal(exported["x_embedder.weight"], base["x_embedder.weight"])

    adapted = ACDiTImagePipeline.from_pretrained(trained / "pipeline")
    adapted.load_lora_weights(path.parent / "lora")
    adapted.fuse_lora()
    adapted.unload_lora_weights()
    for name, tensor in adapted.transformer.state_dict().items():
        if name != "y_embedder.embedding_table.weight":  # not a part of the adapters
            torch.testing.assert_close(tensor, exported[name])


@pytest.mark.long
def test_compiled_blocks_train_as_eager_ones(tmp_path):
    """Mixed block sizes: the compiled blocks meet several shapes."""
    results = []
    for on in (False, True):
        training = {"compile": on, "steps": 5}
        run = Run(small_recipe(tmp_path / str(on), training=training, layout={"blocks": ["2x2", "4x4"]}))
        results.append([(done.loss, done.gradient_norm) for done in run.steps()])
        run.save()
    assert torch.allclose(torch.tensor(results[1]), torch.tensor(results[0]), rtol=1e-4)
    training = {"compile": True, "steps": 6}
    train(small_recipe(tmp_path / "True", training=training, layout={"blocks": ["2x2", "4x4"]}))
