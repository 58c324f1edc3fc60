"""Tracers of torch: programs that are exported equal the network, and caches keep nothing of a tracer."""

import functools
import importlib
import pkgutil
import sys
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.export import Dim
from torch.fx.experimental.proxy_tensor import make_fx

import acdit
from acdit.model.layout import Layout
from acdit.model.transformer import ACDiTTransformer
from acdit.utils.tracing import is_concrete, is_tracing, tensor_cache
from tests.model.test_offloading import KINDS
from tests.tiny import relative_error, tiny_inputs, tiny_model


def forget() -> None:
    """Empty every cache of the package, as in a fresh process."""
    for name, module in list(sys.modules.items()):
        if name.split(".")[0] == "acdit":
            for value in list(vars(module).values()):
                if hasattr(value, "cache_clear"):
                    value.cache_clear()


def arguments(kind: str, batch: int, seed: int = 0) -> tuple[ACDiTTransformer, dict[str, Any]]:
    """A network in float64 and its arguments by name."""
    layout, config = KINDS[kind]
    given, network = (
        tiny_inputs(layout, batch, seed, torch.float64),
        tiny_model(dtype=torch.float64, **config),
    )
    noised, clean = given.noised, given.clean
    if "vocab_size" in config:
        noised, clean = ((part[..., 0] * 100).long() % 11 for part in (noised, clean))
    named: dict[str, Any] = {"noised": noised, "clean": clean, "layout": layout, "return_dict": False}
    if network.config["time_conditioning"]:
        named["timestep"] = given.timestep
    if network.config["num_classes"] is not None:
        named["labels"] = given.labels
    return network, named


def export(network: ACDiTTransformer, named: dict[str, Any], batch: Any = None) -> Any:
    shapes = {
        name: ({0: batch} if isinstance(value, Tensor) else None)
        for name, value in named.items()
        if not isinstance(value, Layout)
    }
    shapes |= {name: [] for name, value in named.items() if isinstance(value, Layout)}
    dynamic = None if batch is None else {name: shapes[name] for name in named}
    return torch.export.export(network, (), named, dynamic_shapes=dynamic)


def in_fake_mode(network: ACDiTTransformer, named: dict[str, Any]) -> None:
    with FakeTensorMode(allow_non_fake_inputs=True):
        assert isinstance(network(**named)[0], FakeTensor)


def by_make_fx(network: ACDiTTransformer, named: dict[str, Any]) -> None:
    rest = {name: value for name, value in named.items() if name != "clean"}
    make_fx(lambda clean: network(clean=clean, **rest)[0], tracing_mode="fake", _allow_non_fake_inputs=True)(
        named["clean"]
    )


def compiled(network: ACDiTTransformer, named: dict[str, Any]) -> None:
    torch.compile(network, backend="eager")(**named)


def by_jit(network: ACDiTTransformer, named: dict[str, Any]) -> None:
    rest = {name: value for name, value in named.items() if name != "clean"}
    network.requires_grad_(False)  # the tracer takes no constants that require gradients
    torch.jit.trace(lambda clean: network(clean=clean, **rest)[0], (named["clean"],), check_trace=False)


def on_meta(network: ACDiTTransformer, named: dict[str, Any]) -> None:
    with torch.device("meta"):  # the default device of tensors that are created meanwhile
        network(**named)


OTHERS = [kind for kind in KINDS if kind != "classes"]
TRACERS = [export, in_fake_mode, by_make_fx, compiled, by_jit, on_meta]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("tracer", TRACERS)
@pytest.mark.parametrize("backend", ["dense", "split"])
def test_a_tracer_that_comes_first_leaves_nothing(tracer, backend):
    network, named = arguments("classes", 2)
    network.set_attention_backend(backend)
    with torch.no_grad():
        expected = network(**named)[0]
        forget()
        tracer(network, named)
        result = network(**named)[0]
        other, same = arguments("classes", 2)
        other.set_attention_backend(backend)
        again = other(**same)[0]
    assert is_concrete((result, again))
    assert torch.equal(result, expected) and torch.equal(again, expected)
    forget()


@pytest.mark.parametrize(
    "kind", ["classes", *(pytest.param(kind, marks=pytest.mark.long) for kind in OTHERS)]
)
def test_an_exported_program_is_the_network_for_every_batch_size(kind):
    network, named = arguments(kind, 3)
    program = export(network, named, Dim("batch", min=2, max=64)).module()
    for batch, seed in ((3, 0), (2, 1), (7, 2)):
        _, named = arguments(kind, batch, seed)
        with torch.no_grad():
            expected, result = network(**named)[0], program(**named)[0]
        assert relative_error(result, expected) < 1e-9


def test_a_cache_holds_what_is_concrete():
    calls = []

    @tensor_cache(maxsize=4)
    def ones(count: int) -> tuple[Tensor, ...]:
        calls.append(is_tracing())
        return (torch.ones(count),)

    with FakeTensorMode():
        assert isinstance(ones(2)[0], FakeTensor) and isinstance(ones(2)[0], FakeTensor)
    with torch.inference_mode(), torch.device("meta"):
        first = ones(2)[0]
    assert ones(2)[0] is first and torch.equal(first, torch.ones(2)) and not first.is_inference()
    with FakeTensorMode():
        assert isinstance(ones(2)[0], FakeTensor)
    assert calls == [True, True, False, True]
    ones.cache_clear()  # pyright: ignore[reportFunctionMemberAccess]
    assert ones(2)[0] is not first


def test_tensors_are_in_no_other_cache():
    """Functions with a cache of functools return no tensor."""
    cached = {}
    for info in pkgutil.walk_packages(acdit.__path__, "acdit."):
        if not info.name.startswith(("acdit.playground", "acdit.__main__", "acdit.cli")):
            for value in vars(importlib.import_module(info.name)).values():
                if isinstance(value, functools._lru_cache_wrapper) and value.__module__.startswith("acdit."):
                    cached[f"{value.__module__}.{value.__qualname__}"] = value.__wrapped__.__annotations__
    assert len(cached) > 3 and all("return" in hints for hints in cached.values())
    named = ("Tensor", "RopeTable", "BlockMask", "Module")
    results = {name: str(hints["return"]) for name, hints in cached.items()}
    results = {name: words for name, words in results.items() if "Callable" not in words}
    assert not [name for name, words in results.items() if any(word in words for word in named)]
