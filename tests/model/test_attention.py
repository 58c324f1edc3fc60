"""Every attention backend against a loop over tokens, written from the mask's definition (section 4.2)."""

import math
from typing import Any, NamedTuple

import pytest
import torch
from torch.nn.attention.flex_attention import flex_attention

from acdit.model import attention
from acdit.model import split_attention as split
from acdit.model.attention import attend, check_backend, default_backend, disagreement
from acdit.model.skip_causal_mask import clean_visibility, view_visibility
from tests.tiny import TOLERANCE, relative_error

HEADS, WIDTH = 2, 4


class Case(NamedTuple):
    """A stream of query blocks: noised views, or the clean blocks that follow a cached prefix."""

    noised: bool
    blocks: tuple[int, ...]
    tokens: int = 2
    window: int | None = None
    sinks: int = 0
    bidirectional: bool = False

    @property
    def clean(self) -> int:
        """Clean blocks that answer."""
        return max(self.blocks) + (not self.noised)

    def visibility(self):
        if self.noised:
            return view_visibility(self.tokens, self.blocks, self.window, self.sinks)
        return clean_visibility(
            self.tokens, self.blocks[0], self.blocks[-1] + 1, self.window, self.sinks, self.bidirectional
        )


SMALL = {
    "views of all blocks": Case(True, (0, 1, 2, 3), tokens=3),
    "repeated and missing blocks": Case(True, (0, 0, 2, 2, 2, 5)),
    "one block": Case(True, (0,), tokens=4),
    "one block, several draws": Case(True, (0, 0, 0)),
    "both branches of guidance": Case(True, (3, 3), tokens=3),
    "one-token blocks": Case(True, tuple(range(6)), tokens=1),
    "clean": Case(False, (0, 1, 2, 3), tokens=3),
    "clean, one-token blocks": Case(False, tuple(range(6)), tokens=1),
    "clean after a cached prefix": Case(False, (2, 3, 4)),
    "one clean block after a prefix": Case(False, (3,), tokens=3),
    "window": Case(True, tuple(range(6)), window=2),
    "window of none": Case(True, tuple(range(4)), window=0),
    "window and sinks": Case(True, tuple(range(6)), window=1, sinks=2),
    "window, sinks, repeated and missing": Case(True, (1, 4, 4, 7), window=2, sinks=1),
    "sinks beyond the window's start": Case(True, (2, 3, 4), window=2, sinks=3),
    "clean, window and sinks": Case(False, tuple(range(7)), window=1, sinks=1),
    "clean after a prefix, window and sinks": Case(False, (4, 5, 6), window=2, sinks=1),
    "clean, bidirectional": Case(False, (0, 1, 2, 3), tokens=3, bidirectional=True),
    "clean, bidirectional, one-token blocks": Case(False, tuple(range(7)), tokens=1, bidirectional=True),
    "one clean block, bidirectional": Case(False, (0,), tokens=3, bidirectional=True),
}
# More than one of FlexAttention's tiles of 128, and blocks that do not align with them.
LARGE = {
    "views, 96 tokens a block": Case(True, (0, 1, 1, 3), tokens=96),
    "clean, 96 tokens a block": Case(False, (1, 2, 3), tokens=96, window=1, sinks=1),
    "clean, bidirectional, 96 tokens a block": Case(False, (0, 1, 2), tokens=96, bidirectional=True),
}

# Group size of the split backend, in blocks; None = its default. `joined` is what it does off the CPU, and
# where there are few keys: at its default in all of `SMALL`.
BACKENDS: dict[str, tuple[Any, int | None]] = {
    "dense": ("dense", None),
    "split-1": ("split", 1),
    "split-2": ("split", 2),
    "split-5": ("split", 5),
    "split": ("split", None),
    "joined-1": ("joined", 1),
    "joined-2": ("joined", 2),
    "joined-5": ("joined", 5),
    "flex": ("flex", None),
}


def tensors(case, dtype=torch.float64, batch=2, heads=HEADS):
    """Query, clean key and value, and of noised views their own key and value."""
    source = torch.Generator().manual_seed(3)
    queries, keys = len(case.blocks) * case.tokens, case.clean * case.tokens
    lengths = [queries, keys, keys, *([queries] * 2 * case.noised)]
    return [
        torch.randn(batch, heads, length, WIDTH, generator=source, dtype=torch.float64).to(dtype)
        for length in lengths
    ]


def brute_force(case, query, clean_key, clean_value, own_key=None, own_value=None):
    """Token by token: c_i sees c_j for j <= i, or for all j; n_i sees c_j for j < i, and itself."""
    outputs = []
    for row in range(query.shape[2]):
        place = row // case.tokens
        block = case.blocks[place]
        columns = []
        for column in range(clean_key.shape[2]):
            other = column // case.tokens
            past = other < block if case.noised else other <= block or case.bidirectional
            near = case.window is None or block - case.window <= other or other < case.sinks
            if past and near:
                columns.append(column)
        keys, values = clean_key[:, :, columns], clean_value[:, :, columns]
        if own_key is not None and own_value is not None:
            own = slice(place * case.tokens, (place + 1) * case.tokens)
            keys = torch.cat((keys, own_key[:, :, own]), 2)
            values = torch.cat((values, own_value[:, :, own]), 2)
        scores = (query[:, :, row, None] * keys).sum(-1) / math.sqrt(query.shape[-1])
        weights = scores.exp() / scores.exp().sum(-1, keepdim=True)
        outputs.append((weights[..., None] * values).sum(-2))
    return torch.stack(outputs, dim=2)


def computed(case, backend, query, clean_key, clean_value, own_key=None, own_value=None):
    name, group = BACKENDS[backend]
    clean = (clean_key, clean_value) if case.clean else None
    own = None if own_key is None or own_value is None else (own_key, own_value)
    if name == "joined":
        return split._joined_groups(query, clean, own, case.visibility(), group or 1)
    options = {} if group is None else {"group_tokens": group * case.tokens}
    return attend(query, clean, own, case.visibility(), name, **options)


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("case", SMALL.values(), ids=SMALL)
def test_forward(case, backend):
    inputs = tensors(case)
    assert relative_error(computed(case, backend, *inputs), brute_force(case, *inputs)) < 1e-9


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize("case", LARGE.values(), ids=LARGE)
def test_forward_large(case):
    inputs = tensors(case, batch=1, heads=1)
    expected = brute_force(case, *inputs)
    for backend in BACKENDS:
        assert relative_error(computed(case, backend, *inputs), expected) < 1e-9, backend


@pytest.mark.parametrize("backend", ["dense", "split-2", "split", "joined-2"])
def test_forward_float32(backend):
    case = SMALL["window, sinks, repeated and missing"]
    expected = brute_force(case, *tensors(case))
    output = computed(case, backend, *tensors(case, torch.float32))
    assert output.dtype == torch.float32 and relative_error(output, expected) < TOLERANCE[torch.float32]


def test_bfloat16_in_parts_is_nearer_than_one_call():
    """Output and gradients, against float64 of the same rounded inputs: parts are added up in float32."""
    case = Case(True, tuple(range(6)), tokens=16)  # in groups of two: own keys and two parts
    given = tensors(case, torch.bfloat16)

    def answers(backend, dtype):
        inputs = [tensor.to(dtype).requires_grad_() for tensor in given]
        output = computed(case, backend, *inputs)
        return [output.detach(), *torch.autograd.grad(output.square().sum(), inputs)]

    exact, *found = (
        answers("dense", torch.float64),
        answers("dense", torch.bfloat16),
        answers("split-2", torch.bfloat16),
    )
    for expected, dense, parts in zip(exact, *found, strict=True):
        assert parts.dtype == torch.bfloat16
        assert relative_error(parts, expected) < relative_error(dense, expected) < 2**-6


@pytest.mark.long
def test_forward_compiled_flex(monkeypatch):
    monkeypatch.setattr(attention, "flex_attention", torch.compile(flex_attention))
    case = LARGE["views, 96 tokens a block"]
    expected = brute_force(case, *tensors(case, batch=1, heads=1))
    output = computed(case, "flex", *tensors(case, torch.float32, batch=1, heads=1))
    assert output.dtype == torch.float32 and relative_error(output, expected) < TOLERANCE[torch.float32]


@pytest.mark.parametrize("backend", ["dense", "split-1", "split-2", "split", "joined-2"])
@pytest.mark.parametrize("case", SMALL.values(), ids=SMALL)
def test_gradients(case, backend):
    gradients = []
    for function in (computed, brute_force):
        inputs = [tensor.requires_grad_() for tensor in tensors(case)]
        arguments = (case, backend) if function is computed else (case,)
        output = function(*arguments, *inputs)
        weights = torch.randn(output.shape, generator=torch.Generator().manual_seed(5), dtype=output.dtype)
        asked = [tensor for tensor in inputs if tensor.numel()]
        gradients.append(torch.autograd.grad((output * weights).sum(), asked, materialize_grads=True))
    for given, expected in zip(*gradients, strict=True):
        if expected.norm() == 0:  # keys outside every window
            assert case.window == 0 and given.norm() == 0
        else:
            assert relative_error(given, expected) < 1e-9


@pytest.mark.parametrize("name", ["repeated and missing blocks", "one block", "clean, window and sinks"])
def test_merged_attention_is_an_operator_of_torch(name):
    """What torch.compile is told of its answers and of their gradients is so, strides too."""
    case = SMALL[name]
    query, *keys = (x.transpose(1, 2).contiguous().transpose(1, 2) for x in tensors(case))  # as in a network
    for tensor in (query, *keys):
        tensor.requires_grad_(tensor.numel() > 0)
    given = [tensor if tensor.numel() else None for tensor in keys] + [None] * (4 - len(keys))
    facts = (case.clean, list(case.visibility().limits), case.window, case.sinks, case.tokens, 2)
    torch.library.opcheck(split._merged, (query, *given, *facts))


@pytest.mark.parametrize("backend", ["dense", "split-1", "split-2"])
@pytest.mark.parametrize("name", ["repeated and missing blocks", "clean after a prefix, window and sinks"])
def test_gradcheck(name, backend):
    case = SMALL[name]
    inputs = [tensor.requires_grad_() for tensor in tensors(case, batch=1, heads=1)]
    assert torch.autograd.gradcheck(lambda *given: computed(case, backend, *given), inputs)


def test_masks_made_under_inference_mode_serve_training():
    case = Case(True, (0, 2, 3), tokens=5)  # of no other test, so that its mask is not cached yet
    with torch.inference_mode():
        computed(case, "dense", *tensors(case))
        computed(case, "split", *tensors(case))
    for backend in ("dense", "split"):
        inputs = [tensor.requires_grad_() for tensor in tensors(case)]
        computed(case, backend, *inputs).sum().backward()
        assert inputs[-1].grad is not None and inputs[-1].grad.norm() > 0


def test_check_backend():
    cpu = torch.device("cpu")
    assert [check_backend(name, cpu, training=False) for name in attention.BACKENDS] == [
        "dense",
        "split",
        "flex",
    ]
    assert check_backend("flex", torch.device("cuda"), training=True) == "flex"
    with pytest.raises(ValueError, match="one of dense, split, flex, not 'sparse'"):
        check_backend("sparse", cpu, training=False)
    with pytest.raises(ValueError, match="no backward pass on cpu; use 'split'"):
        check_backend("flex", cpu, training=True)
    assert default_backend(cpu) == "split"


@pytest.mark.parametrize(
    "mode",
    [torch.no_grad, torch.inference_mode, lambda: torch.autocast("cpu", torch.bfloat16)],
    ids=["no_grad", "inference_mode", "autocast"],
)
def test_backends_are_compared_in_any_mode(mode):
    """A network chooses its backend in its first call, which samples as often as it trains."""
    cpu = torch.device("cpu")
    expected = disagreement("split", cpu)
    with mode():
        assert disagreement("split", cpu) == expected < 1e-5
