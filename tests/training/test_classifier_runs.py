"""Classifiers are trained by the engine of generators: export, validation, probes, bad input."""

from dataclasses import replace

import pytest
import torch
from sklearn.metrics import accuracy_score, log_loss

from acdit.data.digits import digit_images
from acdit.data.encoding import encode_pixels
from acdit.diffusion.classification import noised_input
from acdit.model.classifier import ACDiTForImageClassification
from acdit.pipelines.classification import ACDiTImageClassificationPipeline
from acdit.pipelines.image import ACDiTImagePipeline
from acdit.pipelines.loading import load_pipeline
from acdit.training.build import build_model
from acdit.training.log import read_log
from acdit.training.loop import train
from acdit.training.run import Run
from acdit.training.validation import Validation
from acdit.utils.errors import UserError
from tests.data.test_images import encoded, write
from tests.tiny import grey_autoencoder
from tests.training.fine_tuning import classifier, merged
from tests.training.small import advance, all_state, small_recipe, unequal


def test_a_run_learns_and_exports_the_classifier_that_validation_measured(tmp_path):
    recipe = small_recipe(
        tmp_path / "run",
        model={"hidden_size": 32},
        data={"validation_fraction": 0.2},
        training={"objective": "classification", "steps": 60, "batch_size": 32},
        validation={"every": 60, "images": 10_000},
    )
    assert train(recipe) == tmp_path / "run" / "pipeline"
    (measured,) = read_log(tmp_path / "run").validations
    pipeline = load_pipeline(tmp_path / "run", kind=ACDiTImageClassificationPipeline)
    held_out = Validation(recipe, tuple("0123456789"), None)
    logits = pipeline.logits(held_out.data)[:, 0]
    probabilities = logits.double().softmax(1).numpy()
    assert measured["loss"] == pytest.approx(log_loss(held_out.labels, probabilities), rel=1e-4)
    assert measured["accuracy"] == pytest.approx(accuracy_score(held_out.labels, logits.argmax(1)))
    assert measured["accuracy_by_head"] == [measured["accuracy"]] and measured["accuracy"] > 0.3
    assert pipeline.data_source == "digits" and list(pipeline.label_names.values()) == list("0123456789")
    # the exported classifier starts another run, with its heads if the classes are the same
    again = small_recipe(
        tmp_path / "again",
        training={"objective": "classification", "init_from": str(tmp_path / "run")},
    )
    assert not unequal(dict(Run(again).learner.network.state_dict()), dict(pipeline.classifier.state_dict()))


def test_validation_is_plain(tmp_path):
    augmentation = (
        "label_smoothing",
        "mixup",
        "cutmix",
        "drop_path",
        "shift",
        "rotation",
        "scaling",
        "randaugment",
    )
    off = dict.fromkeys(augmentation, 0)
    losses = []
    for name, changes in (("all", {}), ("plain", {"classifier": off})):
        recipe = classifier(tmp_path / name, changes, {"validation": {"every": 1, "images": 50}})
        run = Run(recipe)
        weight = run.learner.network.get_parameter("heads.0.linear.weight")
        torch.nn.init.normal_(weight, generator=torch.Generator().manual_seed(0))
        run.learner.ema.shadow_params = [each.detach().clone() for each in run.learner.parameters]
        validation = Validation(recipe, run.data.label_names, None)
        losses.append(validation.measure(run.learner, run.layouts[0], 8, run.ranks))
    assert losses[0] == losses[1]


@pytest.fixture(scope="module")
def generator(tmp_path_factory):
    """Return the folder of a generator of digits."""
    out = tmp_path_factory.mktemp("generator")
    train(small_recipe(out, training={"steps": 2}, model={"num_layers": 2, "hidden_size": 24}))
    return out


@pytest.mark.parametrize("form", [{}, {"classifier": {"timestep": 200}, "layout": {"blocks": ["4x4"]}}])
def test_a_classifier_starts_with_the_features_of_its_generator(generator, tmp_path, form):
    start = {"training": {"objective": "classification", "init_from": str(generator)}}
    run = Run(small_recipe(tmp_path, **merged(start, form)))
    assert f"training.init_from {generator}: the weights of the generator" in " ".join(run.changes)
    network, layout = run.learner.network.eval(), run.layouts[0]
    assert isinstance(network, ACDiTForImageClassification)
    trained = load_pipeline(generator, kind=ACDiTImagePipeline).transformer
    blocks = layout.to_blocks(digit_images("digits")[0][:3])
    with torch.no_grad():
        features = network.features(noised_input(network, blocks), layout=layout, layers=(2,))[0]
        if form:
            times = torch.full((3, 1), 200.0)
            output = trained(noised_input(network, blocks), times, layout=layout, return_hidden_states=True)
        else:
            output = trained(None, layout=layout, clean=blocks, return_hidden_states=True)
    assert torch.allclose(features, output.hidden_states, atol=1e-5)
    advance(run, 1)


def test_probes_train_their_heads_alone(generator, tmp_path):
    recipe = small_recipe(
        tmp_path,
        training={"objective": "probes", "init_from": str(generator)},
        classifier={"probe": "both", "queries": 4},
        validation={"every": 1, "images": 30},
    )
    run = Run(recipe)
    before = all_state(run)
    advance(run, 2)
    changed = unequal(before, all_state(run))
    names = {name.partition(".")[2] for name in changed}
    assert names and all(name.startswith("heads.") for name in names)
    assert {name.split(".")[1] for name in names} == {str(head) for head in range(6)}
    assert run.learner.network.layers == (0, 1, 2, 0, 1, 2)
    validation = Validation(recipe, run.data.label_names, None)
    measured = validation.measure(run.learner, run.layouts[0], 8, run.ranks)
    assert len(measured["accuracy_by_head"]) == 6 == len(measured["loss_by_head"])
    run.save()
    advance(run, 1)
    resumed = Run(recipe)
    advance(resumed, 1)
    assert not unequal(all_state(run), all_state(resumed))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"training": {"init_from": "moving-digits"}}, "moving-digits is a model of video, but a classifier"),
        ({"training": {"init_from": "shakespeare"}}, "shakespeare is a model of text, but a classifier"),
        ({"training": {"init_from": "mnist"}}, "has tokens of 16 values, but those of this recipe have 4"),
        ({"classifier": {"timestep": 5}}, r"set layout\.blocks to 4x4, not 2x2"),
        ({"classifier": {"queries": 3}}, "must divide the hidden size 16; 3 does not"),
        ({"data": {"num_classes": 9}}, r"data\.num_classes must be 10"),
        ({"data": {"labels_per_class": 999}}, r"labels_per_class is 999, but class '\d'"),
    ],
)
def test_recipes_that_do_not_fit_are_refused(tmp_path, changes, message):
    with pytest.raises(UserError, match=message):
        Run(classifier(tmp_path, changes))


def test_data_of_one_class_are_refused(tmp_path):
    folder = write(tmp_path / "one", {"cat/1.png": encoded(1), "cat/2.png": encoded(2)})
    data = {"data": {"source": str(folder), "image_size": 8}}
    with pytest.raises(UserError, match=r"needs at least two classes, but .* has one"):
        Run(classifier(tmp_path / "run", data))
    assert not (tmp_path / "run").exists()


def test_data_without_classes_are_refused(tmp_path):
    folder = write(tmp_path / "bare", {"1.png": encoded(1), "2.png": encoded(2)})
    data = {"data": {"source": str(folder), "image_size": 8}}
    with pytest.raises(UserError, match=r"needs at least two classes, but .* has none"):
        Run(classifier(tmp_path / "run", data))


def test_latents_are_classified_and_the_pipeline_encodes_images(tmp_path):
    grey_autoencoder().save_pretrained(tmp_path / "vae")
    files = {f"{name}/{i}.png": encoded(i) for name in "ab" for i in range(5)}
    changes = {
        "data": {"source": str(write(tmp_path / "few", files)), "image_size": 8, "channels": 1},
        "autoencoder": {"model": str(tmp_path / "vae"), "latents": str(tmp_path / "latents")},
        "layout": {"patch": 1, "blocks": ["2x2"]},
        "classifier": {"rotation": 0, "scaling": 0, "randaugment": 0},
        "training": {"steps": 2},
    }
    recipe = classifier(tmp_path / "run", changes)
    device = torch.device("cpu")
    encode_pixels(recipe.latents, recipe.data, recipe.autoencoder, seed=0, device=device, batch=4)
    assert train(recipe) is not None
    pipeline = load_pipeline(tmp_path / "run", kind=ACDiTImageClassificationPipeline)
    assert pipeline.vae is not None and pipeline.logits(torch.zeros(2, 1, 8, 8)).shape == (2, 1, 2)


def test_runs_of_generators_and_classifiers_are_not_mixed(tmp_path):
    Run(small_recipe(tmp_path / "one")).save()
    with pytest.raises(UserError, match="holds a run that is not one of image classification"):
        Run(classifier(tmp_path / "one"), allow_changes=True)
    Run(classifier(tmp_path / "other")).save()
    with pytest.raises(UserError, match="holds a run that is not one of image"):
        Run(small_recipe(tmp_path / "other"), allow_changes=True)


def test_the_classes_of_a_run_do_not_change(tmp_path):
    names = ("ant", "bee", "cow")
    files = {f"{name}/{i}.png": encoded(i) for name in names for i in range(4)}
    folder = write(tmp_path / "pictures", files)
    data = {"data": {"source": str(folder), "image_size": 8}}
    Run(classifier(tmp_path / "run", data)).save()
    (folder / "cow").rename(folder / "dog")
    with pytest.raises(UserError, match=r"classes of a classifier cannot change .* class dog is new"):
        Run(classifier(tmp_path / "run", data), allow_changes=True)


def test_new_classes_get_new_heads(tmp_path, generator):
    start = {"training": {"objective": "classification", "init_from": str(generator)}}
    few = write(tmp_path / "few", {f"{name}/{i}.png": encoded(i) for name in "ab" for i in range(3)})
    data = {"data": {"source": str(few), "image_size": 8, "channels": 1}}
    run = Run(small_recipe(tmp_path / "run", **merged(start, data)))
    assert run.network_config["num_labels"] == 2
    copy = build_model(run.recipe, run.layouts[0], run.data, run.network_config)
    assert copy.state_dict().keys() == run.learner.network.state_dict().keys()


@pytest.fixture(scope="module")
def of_twelve_classes(tmp_path_factory):
    """Return the recipe of a finished run with twelve classes; as text, 10 comes before 2."""
    out = tmp_path_factory.mktemp("twelve")
    folder = write(out / "files", {f"{name}/1.png": encoded(name) for name in range(12)})
    data = {"data": {"source": str(folder), "image_size": 8, "channels": 1}}
    recipe = classifier(out / "run", data, {"training": {"steps": 1}, "classifier": {"pooling": "mean"}})
    assert train(recipe) is not None
    return recipe


def test_more_than_ten_classes_keep_their_order_and_their_heads(of_twelve_classes, tmp_path):
    source = of_twelve_classes.out
    pipeline = load_pipeline(source, kind=ACDiTImageClassificationPipeline)
    names = [str(name) for name in range(12)]
    assert list(pipeline.label_names.values()) == names == pipeline.class_names
    again = replace(of_twelve_classes, out=str(tmp_path))
    again = replace(again, training=replace(again.training, init_from=source))
    run = Run(again)
    assert "all weights, since classes and heads are the same" in " ".join(run.changes)
    assert not unequal(dict(run.learner.network.state_dict()), dict(pipeline.classifier.state_dict()))


def test_heads_of_another_pooling_are_new(of_twelve_classes, tmp_path):
    again = replace(of_twelve_classes, out=str(tmp_path))
    again = replace(
        again,
        training=replace(again.training, init_from=of_twelve_classes.out),
        classifier=replace(again.classifier, pooling="last"),
    )
    assert "with new heads for 12 classes" in " ".join(Run(again).changes)
