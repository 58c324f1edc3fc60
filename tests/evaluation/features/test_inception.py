"""Inception features equal those of torch-fidelity with the same file, down to the pixels of its input."""

import hashlib
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
import torch

from acdit.evaluation.features import inception
from acdit.evaluation.features.image_network import bicubic
from acdit.evaluation.features.inception import fidelity, find_weights
from acdit.evaluation.features.table import open_extractor
from acdit.utils.errors import UserError
from acdit.utils.references import load_submodule

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Write random weights in the format of the published file, with activations of ordinary size."""
    generator = torch.Generator().manual_seed(0)
    state = inception._network().state_dict()
    for name, value in state.items():
        if name.endswith("conv.weight"):
            value.normal_(0, (2 / value[0].numel()) ** 0.5, generator=generator)
        elif name.endswith(("running_mean", "bias")):
            value.normal_(0, 0.1, generator=generator)
    path = tmp_path_factory.mktemp("inception") / "weights.pth"
    torch.save(state, path)
    return path


@pytest.fixture(scope="module")
def original(weights):
    """Return the network of torch-fidelity, which also keeps the inputs of its first layer."""
    library = load_submodule("torch_fidelity", "feature_extractor_inceptionv3")
    network = library.FeatureExtractorInceptionV3(
        "any", ["2048", "logits_unbiased"], feature_extractor_weights_path=str(weights)
    )
    network.inputs = []
    network.Conv2d_1a_3x3.register_forward_pre_hook(lambda _, inputs: network.inputs.append(*inputs))
    return network


def images(side: tuple[int, int]) -> torch.Tensor:
    return torch.randint(0, 256, (2, 3, *side), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)


def relative(answer: torch.Tensor, expected: torch.Tensor) -> float:
    return float((answer - expected).norm() / expected.norm())


def test_features_and_inputs_are_those_of_torch_fidelity(weights, original):
    pixels = images((32, 32))
    extractor: Any = open_extractor(f"inception:{weights}", (3, 32, 32), CPU)
    answer = extractor(pixels / 127.5 - 1)
    features, logits = original(pixels)
    assert answer.values.shape == (2, 2048) and answer.logits.shape == (2, 1008)
    assert relative(features[0], features[1]) > 0.01  # the weights tell pictures apart
    assert relative(answer.values, features) <= 1e-5
    assert relative(answer.logits, logits) <= 1e-5
    for side in ((32, 32), (299, 299), (500, 333)):  # enlarged, as it is, reduced
        original.inputs.clear()
        with pytest.raises(StopIteration), torch.no_grad():
            handle = original.Conv2d_1a_3x3.register_forward_hook(stop)
            try:
                original(images(side))
            finally:
                handle.remove()
        torch.testing.assert_close(extractor._prepare(images(side)), original.inputs[0], rtol=0, atol=1e-6)
    info = extractor.info
    assert (info.name, info.input_size, info.pixels, info.resizing) == (
        "inception",
        299,
        "uint8",
        "bilinear-tensorflow1",
    )


def stop(*_: object) -> None:
    raise StopIteration


def test_antialiased_resizing_is_another_setting_of_the_same_network(weights, original):
    pixels = images((299, 299))
    extractor: Any = open_extractor(f"inception-antialias:{weights}", (3, 299, 299), CPU)
    plain: Any = open_extractor(f"inception:{weights}", (3, 299, 299), CPU)
    assert relative(extractor(pixels / 127.5 - 1).values, original(pixels)[0]) <= 1e-5  # nothing to resize
    assert extractor.info.version == plain.info.version and extractor.info.resizing == "bicubic-antialias"
    small = images((40, 30))
    assert (extractor._prepare(small) - plain._prepare(small)).abs().max() > 0.1


@pytest.mark.parametrize("side", [(32, 40), (700, 600)])
def test_bicubic_resizing_is_antialiased_and_clipped(side):
    pixels = images(side)
    expected = torch.nn.functional.interpolate(
        pixels.double(), (299, 299), mode="bicubic", antialias=True, align_corners=False
    )
    assert expected.max() > 255 or side[0] > 299  # the kernel overshoots
    torch.testing.assert_close(bicubic(pixels, 299).double(), expected.clamp(0, 255), rtol=0, atol=2e-3)


def test_a_file_of_other_weights_is_refused(tmp_path):
    torch.save({"fc.weight": torch.zeros(1000, 2048)}, tmp_path / "torchvision.pth")
    with pytest.raises(UserError, match="is not the file of Inception weights of torch-fidelity: it lacks"):
        open_extractor(f"inception:{tmp_path / 'torchvision.pth'}", (3, 8, 8), CPU)
    with pytest.raises(UserError, match="is not a file; name the file of Inception weights"):
        open_extractor(f"inception-antialias:{tmp_path / 'none.pth'}", (3, 8, 8), CPU)


def test_torch_fidelity_is_not_left_half_imported():
    module = load_submodule("torch_fidelity", "helpers")
    assert module.vassert and not [name for name in sys.modules if name.startswith("torch_fidelity")]
    with pytest.raises(ModuleNotFoundError):
        load_submodule("no_such_package", "helpers")
    with pytest.raises(ModuleNotFoundError):
        load_submodule("torch_fidelity", "no_such_module")
    assert not [name for name in sys.modules if name.startswith("torch_fidelity")]


@pytest.fixture
def server(monkeypatch, tmp_path):
    """Serve one file under any name; the address of the weights leads to it, and the caches are empty."""
    content = b"weights " * 300_000

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            cut = "cut" in self.path
            self.send_response(404 if "missing" in self.path else 200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[: len(content) // 2] if cut else content)

        def log_message(self, format: str, *args: Any) -> None:
            del format, args

    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("ACDIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    served = HTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=served.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    digest = hashlib.sha256(content).hexdigest()[:8]

    def name(stem: str) -> str:
        url = f"http://127.0.0.1:{served.server_port}/{stem}"
        monkeypatch.setattr(fidelity("feature_extractor_inceptionv3"), "URL_INCEPTION_V3", url)
        return url

    yield name, digest, content
    served.shutdown()
    thread.join()
    served.server_close()


def test_weights_are_fetched_once_and_checked(server, tmp_path):
    name, digest, content = server
    name(f"weights-{digest}.pth")
    path = find_weights("")
    assert path == tmp_path / "cache" / f"weights-{digest}.pth" and path.read_bytes() == content
    path.write_text("kept")
    assert find_weights("").read_text() == "kept"  # not fetched again
    hub = tmp_path / "torch" / "hub" / "checkpoints" / "weights-of-hub.pth"
    hub.parent.mkdir(parents=True)
    hub.touch()
    name("weights-of-hub.pth")
    assert find_weights("") == hub
    assert find_weights("given.pth").name == "given.pth"


@pytest.mark.parametrize(
    ("stem", "words"),
    [
        ("weights-00000000.pth", "is not the expected file: its SHA-256 begins with"),
        ("cut-{}.pth", "is not the expected file"),
        ("missing-{}.pth", "cannot be fetched: HTTP Error 404: Not Found"),
    ],
)
def test_what_cannot_be_fetched_is_one_line_and_leaves_nothing(server, tmp_path, stem, words):
    name, digest, _ = server
    url = name(stem.format(digest))
    with pytest.raises(UserError, match=words) as caught:
        open_extractor("inception", (3, 8, 8), CPU)
    assert url in str(caught.value) and "\n" not in str(caught.value)
    assert "give the file: inception:FILE" in str(caught.value)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_without_a_connection_the_message_names_the_file(server, monkeypatch):
    name, _, _ = server
    name("any.pth")
    url = "http://127.0.0.1:9/weights-6726825d.pth"  # nobody listens there
    monkeypatch.setattr(fidelity("feature_extractor_inceptionv3"), "URL_INCEPTION_V3", url)
    with pytest.raises(UserError, match=r"refused.*; get weights-6726825d.pth from there by other means"):
        open_extractor("inception-antialias", (3, 8, 8), CPU)
