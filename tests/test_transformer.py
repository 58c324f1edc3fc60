"""The network against an independent reference: one sequence of clean and noised tokens, a dense mask."""

import copy
import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from acdit.layout import Layout
from acdit.transformer import SIZES, ACDiTTransformer
from tests.tiny import TINY, TOLERANCE, relative_error, tiny_inputs, tiny_model

# Layouts and views: square and not, 1 to 3 axes, subsets, repeats, windows.
CASES: dict[str, tuple[Layout, dict[str, Any]]] = {
    "square": (Layout((4, 4), (2, 2)), {}),
    "not square": (Layout((2, 6), (2, 3)), {}),
    "more columns than rows": (Layout((6, 4), (2, 2)), {}),
    "one block": (Layout((4, 4), (4, 4)), {}),
    "one-token blocks": (Layout((2, 3), (1, 1)), {}),
    "video": (Layout((4, 2, 2), (2, 2, 1)), {}),
    "sequence": (Layout((12,), (3,)), {}),
    "repeated and missing views": (Layout((4, 6), (2, 2)), {"blocks": (1, 1, 4)}),
    "first block, several draws": (Layout((4, 4), (2, 2)), {"blocks": (0, 0)}),
    "window and sinks": (Layout((12,), (2,)), {"window": 2, "sinks": 1}),
}


def build(
    layout: Layout, seed: int = 0, dtype: torch.dtype = torch.float64, **config: Any
) -> ACDiTTransformer:
    return tiny_model(seed, dtype, axis_lengths=layout.grid, **config)


def rms_norm(x: Tensor, weight: Tensor) -> Tensor:
    return x / torch.sqrt((x * x).mean(-1, keepdim=True) + 1e-6) * weight


def silu(x: Tensor) -> Tensor:
    return x / (1 + torch.exp(-x))


def gelu(x: Tensor) -> Tensor:
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def rotate(x: Tensor, places: Tensor, lengths: tuple[int, ...], split: tuple[int, ...]) -> Tensor:
    """RoPE-ND (Eq. 4) of (N, S, H, D) at integer coordinates (S, axes)."""
    parts = []
    for axis, part in enumerate(x.split(split, dim=-1)):
        width = split[axis]
        base = 100 * math.ceil(8 * lengths[axis] / (100 * math.pi))
        inverse = base ** (-2 * torch.arange(width // 2, dtype=torch.float64) / width).to(x.dtype)
        angle = (places[:, axis, None].double() * inverse)[None, :, None]
        low, high = part[..., : width // 2], part[..., width // 2 :]
        parts += [low * angle.cos() - high * angle.sin(), high * angle.cos() + low * angle.sin()]
    return torch.cat(parts, dim=-1)


def scam(kinds: list[tuple[bool, int]], tokens: int, window: int | None, sinks: int) -> Tensor:
    """Who sees whom among copies (noised?, block), written from section 4.2."""
    seen = torch.zeros(len(kinds), len(kinds), dtype=torch.bool)
    for (a, (noised, i)), (b, (other_noised, j)) in itertools.product(enumerate(kinds), repeat=2):
        near = window is None or j >= i - window or j < sinks
        if noised:
            seen[a, b] = (not other_noised and j < i and near) or a == b
        else:
            seen[a, b] = not other_noised and j <= i and near
    return seen.repeat_interleave(tokens, 0).repeat_interleave(tokens, 1)


def reference(
    model: ACDiTTransformer,
    noised: Tensor,
    timestep: Tensor | None,
    clean: Tensor,
    labels: Tensor | None,
    layout: Layout,
    blocks: tuple[int, ...] | None = None,
    window: int | None = None,
    sinks: int = 0,
) -> tuple[Tensor, Tensor]:
    """Prediction (N, M, B, C) and last states (N, T + M, B, hidden), written from the paper alone."""
    p, config = dict(model.named_parameters()), model.config
    hidden, heads = config["hidden_size"], config["num_heads"]
    batch, clean_blocks, tokens = clean.shape[:3]
    blocks = tuple(range(layout.num_blocks)) if blocks is None else blocks
    kinds = [(False, j) for j in range(clean_blocks)] + [(True, i) for i in blocks]
    mask = scam(kinds, tokens, window, sinks)
    places = torch.cat([layout.coordinates()[index] for _, index in kinds])  # (S, axes)
    width = hidden // heads
    split = {1: (width,), 2: (width // 2,) * 2, 3: (width // 8 * 2, width // 8 * 3, width // 8 * 3)}[
        layout.axes
    ]

    table = p["x_embedder.weight"]
    data = torch.cat((clean, noised), 1).flatten(1, 2)  # (N, S, C) or (N, S)
    x = table[data] if config["vocab_size"] else data @ table.T
    is_noised = torch.tensor([noised for noised, _ in kinds]).repeat_interleave(tokens)[:, None]  # (S, 1)

    vector = torch.zeros(batch, len(blocks), hidden, dtype=x.dtype)
    if timestep is not None:
        # Exponents are rounded to float32 as in the published code; at t = 999 that would show.
        frequencies = (-math.log(10000) * torch.arange(128, dtype=torch.float32) / 128).double().exp().float()
        angles = timestep[..., None] * frequencies.to(x.dtype)
        sinusoid = torch.cat((angles.cos(), angles.sin()), -1)
        inner = silu(sinusoid @ p["t_embedder.mlp.0.weight"].T + p["t_embedder.mlp.0.bias"])
        vector = vector + inner @ p["t_embedder.mlp.2.weight"].T + p["t_embedder.mlp.2.bias"]
    if labels is not None:
        vector = vector + p["y_embedder.embedding_table.weight"][labels.view(batch, -1)]
    per_token = torch.cat((torch.zeros(batch, clean_blocks, hidden, dtype=x.dtype), vector), 1)
    per_token = silu(per_token.repeat_interleave(tokens, 1))  # (N, S, hidden)
    conditioned = "final_layer.adaLN_modulation.1.weight" in p

    def modulation(name: str, neutral: list[float]) -> list[Tensor]:
        """Shift, scale, .. of every token; clean ones and unconditioned networks get the neutral values."""
        if not conditioned:
            return [torch.full_like(x, value) for value in neutral]
        out = per_token @ p[f"{name}.weight"].T + p[f"{name}.bias"]
        parts = out.split(hidden, -1)
        return [torch.where(is_noised, part, value) for part, value in zip(parts, neutral, strict=True)]

    for layer in range(config["num_layers"]):
        here = f"blocks.{layer}"
        parts = modulation(f"{here}.adaLN_modulation.1", [0, 0, 1, 0, 0, 1])
        shift1, scale1, gate1, shift2, scale2, gate2 = parts
        h = rms_norm(x, p[f"{here}.norm1.weight"]) * (1 + scale1) + shift1
        qkv = h @ p[f"{here}.attn.qkv.weight"].T + p[f"{here}.attn.qkv.bias"]
        q, k, v = (part.reshape(batch, -1, heads, width) for part in qkv.split(hidden, -1))
        lengths = tuple(config["axis_lengths"])
        q = rotate(rms_norm(q, p[f"{here}.attn.q_norm.weight"]), places, lengths, split)
        k = rotate(rms_norm(k, p[f"{here}.attn.k_norm.weight"]), places, lengths, split)
        scores = torch.einsum("nqhd,nkhd->nhqk", q, k) / math.sqrt(width)
        weights = scores.masked_fill(~mask, -torch.inf).softmax(-1)
        attended = torch.einsum("nhqk,nkhd->nqhd", weights, v).reshape(batch, -1, hidden)
        x = x + gate1 * (attended @ p[f"{here}.attn.proj.weight"].T + p[f"{here}.attn.proj.bias"])
        h = rms_norm(x, p[f"{here}.norm2.weight"]) * (1 + scale2) + shift2
        h = gelu(h @ p[f"{here}.mlp.fc1.weight"].T + p[f"{here}.mlp.fc1.bias"])
        x = x + gate2 * (h @ p[f"{here}.mlp.fc2.weight"].T + p[f"{here}.mlp.fc2.bias"])

    shift, scale = modulation("final_layer.adaLN_modulation.1", [0, 0])
    out = rms_norm(x, p["final_layer.norm_final.weight"]) * (1 + scale) + shift
    out = out @ p["final_layer.linear.weight"].T + p["final_layer.linear.bias"]
    views = out[:, clean_blocks * tokens :].unflatten(1, (len(blocks), tokens))
    return views, x.unflatten(1, (-1, tokens))


def views_of(given: Tensor, options: dict[str, Any]) -> Tensor:
    """The noised blocks or timesteps that the views of a case need."""
    return given[:, : len(options["blocks"])] if "blocks" in options else given


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize("backend", ["dense", "split", "flex"])
@pytest.mark.parametrize(("layout", "options"), CASES.values(), ids=CASES)
def test_network_equals_the_reference(layout, options, backend):
    model, given = build(layout), tiny_inputs(layout, dtype=torch.float64)
    model.set_attention_backend(backend)
    noised, timestep = (views_of(tensor, options) for tensor in (given.noised, given.timestep))
    with torch.no_grad():
        answer = model(
            noised,
            timestep,
            layout=layout,
            clean=given.clean,
            labels=given.labels,
            return_hidden_states=True,
            **options,
        )
        sample, states = reference(model, noised, timestep, given.clean, given.labels, layout, **options)
    assert relative_error(answer.sample, sample) < 1e-9
    assert relative_error(answer.hidden_states, states) < 1e-9


@pytest.mark.parametrize("name", ["not square", "video"])
def test_network_in_float32(name):
    layout, _ = CASES[name]
    model, given = build(layout, dtype=torch.float32), tiny_inputs(layout)
    with torch.no_grad():
        answer = model(
            given.noised, given.timestep, layout=layout, clean=given.clean, labels=given.labels
        ).sample
        model, given = model.double(), tiny_inputs(layout, dtype=torch.float64)
        expected, _ = reference(model, *given, layout=layout)
    assert answer.dtype == torch.float32 and relative_error(answer, expected) < TOLERANCE[torch.float32]


def gradients(model: ACDiTTransformer, output: Tensor) -> dict[str, Tensor]:
    weights = torch.randn(output.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    names, parameters = zip(*model.named_parameters(), strict=True)
    grads = torch.autograd.grad((output * weights).sum(), parameters)
    return dict(zip(names, grads, strict=True))


@pytest.mark.parametrize("checkpointed", [False, True], ids=["plain", "gradient checkpointing"])
@pytest.mark.parametrize("backend", ["dense", "split"])
def test_gradients_equal_the_reference(backend, checkpointed):
    layout, options = CASES["repeated and missing views"]
    model, given = build(layout).train(), tiny_inputs(layout, dtype=torch.float64)
    model.set_attention_backend(backend)
    if checkpointed:
        model.enable_gradient_checkpointing()
    noised, timestep = (views_of(tensor, options) for tensor in (given.noised, given.timestep))
    answer = model(noised, timestep, layout=layout, clean=given.clean, labels=given.labels, **options).sample
    expected, _ = reference(model, noised, timestep, given.clean, given.labels, layout, **options)
    expected_gradients = gradients(model, expected)
    for name, gradient in gradients(model, answer).items():
        assert relative_error(gradient, expected_gradients[name]) < 1e-9, name


def test_one_block_is_an_ordinary_bidirectional_dit():
    layout = Layout((4, 6), (4, 6))
    model, given = build(layout), tiny_inputs(layout, dtype=torch.float64)
    nothing = given.clean[:, :0]
    with torch.no_grad():
        answer = model(
            given.noised, given.timestep, layout=layout, clean=given.clean, labels=given.labels
        ).sample
        # Without clean blocks the reference's mask is all true: full attention.
        assert scam([(True, 0)], layout.num_tokens, None, 0).all()
        expected, _ = reference(model, given.noised, given.timestep, nothing, given.labels, layout)
    assert relative_error(answer, expected) < 1e-9


@pytest.mark.parametrize("layout", [Layout((4, 6), (2, 3)), Layout((5,), (1,))], ids=str)
def test_a_clean_block_is_seen_by_later_views_alone(layout):
    model, given = build(layout), tiny_inputs(layout, dtype=torch.float64)

    def predict(clean):
        with torch.no_grad():
            return model(given.noised, given.timestep, layout=layout, clean=clean, labels=given.labels).sample

    before = predict(given.clean)
    for j in range(layout.num_blocks):
        changed = given.clean.clone()
        changed[:, j] += 1
        after = predict(changed)
        for i in range(layout.num_blocks):
            error = relative_error(after[:, i], before[:, i])
            assert error < 1e-12 if i <= j else error > 1e-4, (i, j)


def test_a_view_is_seen_by_itself_alone():
    layout = Layout((4, 4), (2, 2))
    model, given = build(layout), tiny_inputs(layout, dtype=torch.float64)
    options = {"layout": layout, "clean": given.clean, "blocks": (0, 1, 1, 3)}

    def predict(noised, timestep, labels):
        with torch.no_grad():
            return model(noised, timestep, labels=labels, **options).sample

    labels = given.labels[:, None].repeat(1, 4)
    before = predict(given.noised, given.timestep, labels)
    noised, timestep, other_labels = given.noised.clone(), given.timestep.clone(), labels.clone()
    noised[:, 1] += 1
    timestep[:, 1] = 999 - timestep[:, 1]
    other_labels[:, 1] = 0
    for changes in (
        (noised, given.timestep, labels),
        (given.noised, timestep, labels),
        (given.noised, given.timestep, other_labels),
    ):
        after = predict(*changes)
        for view in range(4):
            error = relative_error(after[:, view], before[:, view])
            assert error > 1e-4 if view == 1 else error < 1e-12


def test_the_last_clean_block_is_never_needed():
    layout = Layout((4, 4), (2, 2))
    model, given = build(layout), tiny_inputs(layout, dtype=torch.float64)
    clean = given.clean.clone()
    clean[:, -1] = torch.nan
    with torch.no_grad():
        answers = [
            model(given.noised, given.timestep, layout=layout, clean=part, labels=given.labels).sample
            for part in (given.clean[:, :-1], given.clean, clean)
        ]
    assert answers[0].norm() > 0
    assert torch.equal(answers[0], answers[1]) and torch.equal(answers[0], answers[2])


def linear_flops(model, *args, **kwargs) -> int:
    """FLOPs of all matrix products with weights in one call."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(*args, **kwargs)
    counts = {str(name): count for name, count in counter.get_flop_counts()["Global"].items()}
    return counts["aten.mm"] + counts["aten.addmm"]


def expected_flops(config, clean_tokens: int, views: int, tokens: int) -> int:
    """2 FLOPs a weight: clean tokens pay for all layers but the last, and there for keys and values alone."""
    h, layers, channels = config.hidden_size, config.num_layers, config.in_channels
    clean = channels * h + (layers - 1) * 12 * h * h + 2 * h * h
    noised = 2 * channels * h + layers * 12 * h * h
    per_view = 256 * h + h * h + layers * 6 * h * h + 2 * h * h
    return 2 * (clean_tokens * clean + views * tokens * noised + views * per_view)


@pytest.mark.parametrize(
    ("blocks", "given_clean", "read"),
    [
        pytest.param((0, 1, 2, 3), 4, 3, id="all views, the last clean block unread"),
        pytest.param((0, 1, 2, 3), 3, 3, id="all views"),
        pytest.param((0, 0), 4, 0, id="views of the first block: no clean stream"),
        pytest.param((1, 1, 1), 4, 1, id="one clean pass for several draws"),
        pytest.param((1, 2), 4, 2, id="later clean blocks unread"),
    ],
)
def test_what_nobody_reads_costs_nothing(blocks, given_clean, read):
    layout, batch = Layout((4, 4), (2, 2)), 2
    model, given = build(layout, num_layers=3), tiny_inputs(layout, batch, dtype=torch.float64)
    views = len(blocks)
    flops = linear_flops(
        model,
        given.noised[:, :views],
        given.timestep[:, :views],
        layout=layout,
        blocks=blocks,
        clean=given.clean[:, :given_clean],
        labels=given.labels,
    )
    assert flops == batch * expected_flops(model.config, read * 4, views, 4)


def test_one_block_costs_what_dit_costs():
    layout = Layout((4, 4), (4, 4))
    model, given = build(layout), tiny_inputs(layout, dtype=torch.float64)
    flops = linear_flops(
        model, given.noised, given.timestep, layout=layout, clean=given.clean, labels=given.labels
    )
    assert flops == 2 * expected_flops(model.config, 0, 1, 16)


def test_a_step_through_the_cache_costs_its_views():
    layout = Layout((4, 4), (2, 2))
    model, given = build(layout), tiny_inputs(layout, dtype=torch.float64)
    options = {
        "layout": layout,
        "cache": model.new_cache(layout, 2),
        "blocks": (2, 2),
        "labels": given.labels,
    }
    views = given.noised[:, :2], given.timestep[:, :2]
    with_clean = linear_flops(model, *views, clean=given.clean[:, :2], **options)
    assert with_clean == 2 * expected_flops(model.config, 2 * 4, 2, 4)
    assert linear_flops(model, *views, **options) == 2 * expected_flops(model.config, 0, 2, 4)


def test_labels_per_sample_and_per_view():
    layout = Layout((4, 4), (2, 2))
    model, given = build(layout), tiny_inputs(layout, dtype=torch.float64)

    def predict(labels):
        with torch.no_grad():
            return model(given.noised, given.timestep, layout=layout, clean=given.clean, labels=labels).sample

    per_view = torch.tensor([[0, 3, 5, 3], [4, 4, 0, 5]])
    answer = predict(per_view)
    for sample, view in itertools.product(range(2), range(4)):
        alike = predict(per_view[sample, view].expand(2))
        assert relative_error(answer[sample, view], alike[sample, view]) < 1e-12
    assert relative_error(predict(given.labels), predict(given.labels[:, None].expand(2, 4))) < 1e-12
    null = predict(None)
    assert relative_error(null, predict(torch.full((2,), TINY["num_classes"]))) < 1e-12
    assert relative_error(null, answer) > 1e-3


def test_labels_are_never_dropped_by_the_network():
    """Dropping labels is the objective's work; the network answers the same, in training mode too."""
    layout = Layout((2,), (1,))
    model, given = build(layout).train(), tiny_inputs(layout, batch=100, dtype=torch.float64)
    with torch.no_grad():
        answer = model(
            given.noised, given.timestep, layout=layout, clean=given.clean, labels=given.labels
        ).sample
        expected, _ = reference(model, *given, layout=layout)
    assert relative_error(answer, expected) < 1e-9


def test_condition_is_added():
    """A condition of one's own acts as if it stood in the label table."""
    layout = Layout((4, 4), (2, 2))
    model, given = build(layout), tiny_inputs(layout, dtype=torch.float64)
    condition = torch.randn(2, 32, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    shifted = copy.deepcopy(model)
    assert shifted.y_embedder is not None
    with torch.no_grad():
        shifted.y_embedder.embedding_table.weight[given.labels] += condition
        options = {"layout": layout, "clean": given.clean, "labels": given.labels}
        answer = model(given.noised, given.timestep, condition=condition, **options).sample
        expected = shifted(given.noised, given.timestep, **options).sample
        plain = model(given.noised, given.timestep, **options).sample
    assert relative_error(answer, expected) < 1e-9
    assert relative_error(answer, plain) > 1e-3


def test_hidden_states_lead_to_the_sample():
    layout = Layout((4, 4), (2, 2))
    model, given = build(layout), tiny_inputs(layout, dtype=torch.float64)
    options = {"layout": layout, "clean": given.clean, "labels": given.labels}
    with torch.no_grad():
        plain = model(given.noised, given.timestep, **options)
        sample, states = model(
            given.noised, given.timestep, return_hidden_states=True, return_dict=False, **options
        )
        clean_alone = model(None, layout=layout, clean=given.clean, return_hidden_states=True)
    assert plain.hidden_states is None and relative_error(sample, plain.sample) < 1e-12
    assert states.shape == (2, 8, 4, 32)
    assert clean_alone.sample is None and relative_error(clean_alone.hidden_states, states[:, :4]) < 1e-12


@pytest.mark.parametrize("time_conditioning", [False, True], ids=["no time", "time"])
def test_token_ids(time_conditioning):
    layout, vocabulary = Layout((12,), (3,)), 11
    model = build(
        layout, in_channels=None, vocab_size=vocabulary, time_conditioning=time_conditioning, num_classes=None
    )
    assert any("adaLN" in name for name in model.state_dict()) == time_conditioning
    source = torch.Generator().manual_seed(0)
    clean, noised = (torch.randint(vocabulary, (2, 4, 3), generator=source) for _ in range(2))
    timestep = tiny_inputs(layout, dtype=torch.float64).timestep if time_conditioning else None
    with torch.no_grad():
        logits = model(noised, timestep, layout=layout, clean=clean).sample
        expected, _ = reference(model, noised, timestep, clean, None, layout)
        changed = clean.clone()
        changed[:, 1] = (changed[:, 1] + 1) % vocabulary
        after = model(noised, timestep, layout=layout, clean=changed).sample
    assert logits.shape == (2, 4, 3, vocabulary) and relative_error(logits, expected) < 1e-9
    assert relative_error(after[:, :2], logits[:, :2]) < 1e-12
    assert relative_error(after[:, 2:], logits[:, 2:]) > 1e-4


def test_save_and_load(tmp_path):
    model = tiny_model(rope="published", rope_split=(6, 10), axis_lengths=(4, 6))
    model.save_pretrained(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        "config.json",
        "diffusion_pytorch_model.safetensors",
    }
    loaded = ACDiTTransformer.from_pretrained(tmp_path, use_safetensors=True)
    assert isinstance(loaded, ACDiTTransformer) and not loaded.training
    expected = model.state_dict()
    assert loaded.state_dict().keys() == expected.keys()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in loaded.state_dict().items())
    layout = Layout((4, 6), (2, 3))
    given = tiny_inputs(layout)
    with torch.no_grad():
        answers = [
            network(
                given.noised, given.timestep, layout=layout, clean=given.clean, labels=given.labels
            ).sample
            for network in (model, loaded)
        ]
    assert answers[0].norm() > 0 and torch.equal(*answers)
    half = ACDiTTransformer.from_pretrained(tmp_path, use_safetensors=True, torch_dtype=torch.bfloat16)
    assert isinstance(half, ACDiTTransformer) and half.dtype == torch.bfloat16


@pytest.mark.parametrize(("size", "millions"), [("B", 130.3), ("L", 457.9), ("XL", 674.9), ("H", 951.0)])
def test_parameter_counts(size, millions):
    with torch.device("meta"):
        model = ACDiTTransformer(in_channels=4, num_classes=1000, **SIZES[size]._asdict())
    count = sum(parameter.numel() for parameter in model.parameters())
    assert round(count / 1e6, 1) == millions
    table = {"B": 132, "L": 460, "XL": 677, "H": 954}  # Table 5 counts 2048 x hidden more
    assert round((count + 2048 * model.config["hidden_size"]) / 1e6) == table[size]


def test_initialisation_is_that_of_dit():
    torch.manual_seed(0)
    config: dict[str, Any] = TINY | {"hidden_size": 64}
    model = ACDiTTransformer(**config)
    for name, parameter in model.named_parameters():
        values = parameter.detach()
        if name.endswith("bias") or "adaLN" in name or name == "final_layer.linear.weight":
            assert not values.any(), name
        elif "norm" in name:
            assert (values == 1).all(), name
        elif "t_embedder" in name or "y_embedder" in name:
            assert 0.017 < values.std() < 0.023, name
        else:  # Xavier, uniform
            bound = math.sqrt(6 / sum(values.shape))
            assert 0.95 * bound < values.abs().max() <= bound, name
            assert abs(float(values.std()) / (bound / math.sqrt(3)) - 1) < 0.1, name


def test_a_fresh_network_answers_zero():
    layout = Layout((4, 4), (2, 2))
    given = tiny_inputs(layout)
    answer = ACDiTTransformer(**TINY)(given.noised, given.timestep, layout=layout, clean=given.clean).sample
    assert answer.shape == given.noised.shape and not answer.any()


def test_attention_backend_errors():
    layout = Layout((4, 4), (2, 2))
    model, given = tiny_model(), tiny_inputs(layout)
    with pytest.raises(ValueError, match="one of dense, split, flex, not 'sdpa'"):
        model.set_attention_backend("sdpa")
    model.set_attention_backend("flex")
    with pytest.raises(ValueError, match="no backward pass on cpu"):
        model.train()(given.noised, given.timestep, layout=layout, clean=given.clean)
    model.set_attention_backend(None)
    assert model(given.noised, given.timestep, layout=layout, clean=given.clean).sample.norm() > 0


@pytest.mark.parametrize(
    ("message", "config"),
    [
        ("either in_channels .* or vocab_size", {"vocab_size": 7}),
        ("either in_channels .* or vocab_size", {"in_channels": None}),
        ("num_heads must divide hidden_size 32; 3 does not", {"num_heads": 3}),
        ("rope must be one of eq4, published, not 'rope'", {"rope": "rope"}),
        ("format version 2", {"format_version": 2}),
        ("1 to 3 axes, not 4", {"axis_lengths": (2, 2, 2, 2)}),
        ("head dimension of 6 cannot be split over 2 axes", {"hidden_size": 24, "num_heads": 4}),
        ("rope_split must be 2 even widths", {"rope_split": (16,)}),
    ],
)
def test_configurations_that_cannot_be(message, config):
    with pytest.raises(ValueError, match=message):
        ACDiTTransformer(**(TINY | config))


@pytest.mark.parametrize(
    ("message", "change"),
    [
        ("layout has 1 axes, the network 2", {"layout": Layout((16,), (4,))}),
        (r"timestep must have one value per view, \(2, 4\), not \(2,\)", {"timestep": torch.zeros(2)}),
        (r"timestep must have one value per view, \(2, 4\), not None", {"timestep": None}),
        ("blocks must be 4 sorted indices", {"blocks": (0, 1, 2)}),
        ("blocks must be 4 sorted indices", {"blocks": (0, 2, 1, 3)}),
        (r"blocks must lie in 0\.\.3", {"blocks": (-1, 0, 1, 2)}),
        (r"blocks must lie in 0\.\.3", {"blocks": (0, 1, 2, 4)}),
        ("a view of block 3 needs 3 clean blocks before it, 0 are given", {"clean": None}),
    ],
)
def test_calls_that_do_not_fit(message, change):
    layout = Layout((4, 4), (2, 2))
    given = tiny_inputs(layout)
    call = {"noised": given.noised, "timestep": given.timestep, "clean": given.clean, "layout": layout}
    with pytest.raises(ValueError, match=message):
        tiny_model()(**(call | change))
