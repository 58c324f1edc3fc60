"""The linear layer by oneDNN's kernels against float64, forward and backward; and torch's own elsewhere."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from acdit.model import linear as module
from acdit.model.linear import Linear, gelu_tanh, linear
from tests.tiny import TOLERANCE, relative_error


@pytest.fixture(params=[True, False], ids=["onednn", "torch"])
def kernels(request, monkeypatch):
    if request.param and not torch.backends.mkldnn.is_available():
        pytest.skip("this torch lacks oneDNN")
    monkeypatch.setattr(module, "_min_multiplications", lambda training: 1 if request.param else math.inf)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(5, 7, 24), (1, 24), (24,), (3, 2, 4, 24)], ids=str)
def test_output_and_gradients(kernels, shape, bias):
    source = torch.Generator().manual_seed(0)
    sizes = [shape, (40, 24), *([(40,)] if bias else [])]
    inputs = [torch.randn(size, generator=source, dtype=torch.float64) for size in sizes]
    weight = torch.randn((*shape[:-1], 40), generator=source, dtype=torch.float64)
    found = []
    for dtype, compute in ((torch.float64, F.linear), (torch.float32, linear)):
        leaves = [tensor.to(dtype).requires_grad_() for tensor in inputs]
        output = compute(*leaves)
        assert output.dtype == dtype and output.shape == (*shape[:-1], 40)
        found.append([output.detach(), *torch.autograd.grad((output * weight.to(dtype)).sum(), leaves)])
    for expected, result in zip(*found, strict=True):
        assert relative_error(result, expected) < TOLERANCE[torch.float32]


@pytest.mark.parametrize("learning", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gelu_of_the_output(kernels, dtype, learning):
    source = torch.Generator().manual_seed(0)
    sizes = (5, 7, 24), (40, 24), (40,)
    inputs = [torch.randn(size, generator=source, dtype=torch.float64, requires_grad=True) for size in sizes]
    expected = F.gelu(F.linear(*inputs), approximate="tanh")
    with torch.set_grad_enabled(learning):
        leaves = [tensor.detach().to(dtype).requires_grad_(learning) for tensor in inputs]
        output = linear(*leaves, gelu=True)
    assert output.dtype == dtype and relative_error(output.detach(), expected.detach()) < TOLERANCE[dtype]
    if learning:
        found = (
            torch.autograd.grad(of.square().sum(), by) for of, by in ((output, leaves), (expected, inputs))
        )
        for result, gradient in zip(*found, strict=True):
            assert relative_error(result, gradient) < TOLERANCE[dtype]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_compiled_gelu_is_the_same_function(dtype):
    torch.compiler.reset()
    tolerance = {**TOLERANCE, torch.bfloat16: 2**-9}[dtype]  # half a step of bfloat16: rounded once
    compiled = torch.compile(gelu_tanh, backend="eager")
    x = torch.linspace(-6, 6, 2401).to(dtype)
    found, exact = x.clone().requires_grad_(), x.double().requires_grad_()
    output, expected = compiled(found), F.gelu(exact, approximate="tanh")
    assert output.dtype == dtype and relative_error(output.detach(), expected.detach()) < tolerance
    gradients = (torch.autograd.grad(of.sum(), by)[0] for of, by in ((output, found), (expected, exact)))
    assert relative_error(*gradients) < tolerance
    far = torch.tensor([-1e6, -300, 300, 1e6], dtype=dtype)
    assert torch.equal(compiled(far), far.clamp(min=0))


@pytest.mark.parametrize("bias", [True, False])
def test_first_outputs_are_left_out(kernels, bias):
    layer, x = Linear(8, 5, bias=bias), torch.randn(6, 8)
    assert torch.allclose(layer(x, skip=2), F.linear(x, layer.weight, layer.bias)[:, 2:], atol=1e-6)


@pytest.mark.parametrize("frozen", ["weight", "bias", "x"])
def test_what_needs_no_gradient_gets_none(kernels, frozen):
    given = {"x": torch.randn(6, 8), "weight": torch.randn(5, 8), "bias": torch.randn(5)}
    for name, tensor in given.items():
        tensor.requires_grad_(name != frozen)
    linear(given["x"], given["weight"], given["bias"]).sum().backward()
    assert all((given[name].grad is None) == (name == frozen) for name in given)


@pytest.mark.parametrize("kernels", [True], ids=["onednn"], indirect=True)
def test_strided_and_empty_inputs(kernels):
    layer, x = Linear(8, 5), torch.randn(6, 2, 8)
    for part in (x[:, 1], x[::2], x.transpose(0, 1), x[:0]):
        assert torch.allclose(layer(part), F.linear(part, layer.weight, layer.bias), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("vendor", "learning", "rows", "by_onednn"),
    [
        ("GenuineIntel", True, 512, False),
        ("GenuineIntel", False, 256, True),
        ("GenuineIntel", False, 255, False),
        ("AuthenticAMD", True, 512, True),
        ("AuthenticAMD", True, 31, False),
        ("AuthenticAMD", False, 32, True),
    ],
)
def test_kernels_by_processor_and_size(monkeypatch, tmp_path, vendor, learning, rows, by_onednn):
    """Of 128 inputs and 256 outputs: 2^23 multiplications are 256 rows, 2^20 are 32."""
    (tmp_path / "cpuinfo").write_text(f"processor: 0\nvendor_id: {vendor}\n")
    monkeypatch.setattr(module, "Path", lambda _: tmp_path / "cpuinfo")
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    monkeypatch.setattr(module, "_min_multiplications", module._min_multiplications.__wrapped__)
    with torch.set_grad_enabled(learning):
        assert module._uses_onednn(torch.ones(rows, 128), torch.ones(256, 128)) == by_onednn


def test_other_precisions_are_torch_own():
    layer = Linear(8, 5)
    assert isinstance(layer, nn.Linear)
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(torch.randn(3, 8)).dtype == torch.bfloat16
    assert layer.double()(torch.randn(3, 8, dtype=torch.float64)).dtype == torch.float64
    assert layer.to("meta")(torch.empty(3, 8, dtype=torch.float64, device="meta")).device.type == "meta"
