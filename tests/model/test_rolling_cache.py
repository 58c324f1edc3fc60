"""The cache that rolls: against an uncached forward, and with sinks against a loop that keeps bare keys."""

import math
from contextlib import nullcontext

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from acdit.diffusion.generate import Guidance, draw_noise, generate
from acdit.diffusion.schedulers import default_sampler
from acdit.model.layout import Layout
from acdit.model.transformer import ACDiTTransformer
from tests.reference import gelu, rms_norm, rotate
from tests.tiny import TINY, relative_error, tiny_inputs, tiny_model

LAYOUTS = [Layout((24, 2, 2), (2, 2, 2)), Layout((12, 2, 2), (2, 1, 2)), Layout((30,), (3,))]


def rolled(model, layout, given, window, sinks=0, joint=True):
    """Predictions (N, T, B, C) of one view after another through a rolling cache; and the cache."""
    cache = model.new_cache(layout, len(given.labels), window=window, sinks=sinks)
    answers = []
    for index in range(layout.num_blocks):
        clean = given.clean[:, index - 1 : index] if index else None
        if clean is not None and not (joint and cache.takes_beside_views(1)):
            model(None, layout=layout, clean=clean, cache=cache)
            clean = None
        step = {"layout": layout, "blocks": (index,), "labels": given.labels, "cache": cache}
        answers.append(
            model(given.noised[:, [index]], given.timestep[:, [index]], clean=clean, **step).sample
        )
        again = model(given.noised[:, [index]], given.timestep[:, [index]], **step).sample
        assert relative_error(again, answers[-1]) < 1e-9
    return torch.cat(answers, 1), cache


@pytest.mark.parametrize("joint", [True, False], ids=["one call", "two calls"])
@pytest.mark.parametrize("window", [1, 2, 3])
@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_without_sinks_it_is_the_windowed_forward(layout, window, joint):
    model = tiny_model(dtype=torch.float64, axis_lengths=tuple(min(4, size) for size in layout.grid))
    given = tiny_inputs(layout, dtype=torch.float64)
    with torch.no_grad():
        expected = model(
            given.noised, given.timestep, layout=layout, clean=given.clean, labels=given.labels, window=window
        ).sample
        answers, cache = rolled(model, layout, given, window, joint=joint)
    assert relative_error(answers, expected) < 1e-9
    assert cache.num_evicted == layout.num_blocks - 1 - window
    assert cache.nbytes == 2 * 2 * 2 * 32 * (window + 1) * layout.block_tokens * 8


def brute_force(model, layout, given, window, sinks):
    """Block after block over bare keys: the sinks are rotated for where the window begins."""
    p, config = dict(model.named_parameters()), model.config
    hidden, heads = config["hidden_size"], config["num_heads"]
    width, axes = hidden // heads, layout.axes
    split = {1: (width,), 3: (width // 8 * 2, width // 8 * 3, width // 8 * 3)}[axes]
    past = [[] for _ in range(config["num_layers"])]  # of each layer the bare keys and values of every block

    def at(block):
        places = layout.coordinates(range(1))[0].clone()
        places[:, 0] += block * layout.block[0]
        return places

    def through(x, index, vector):
        """One block's outputs, (N, B, hidden), and its bare keys and values, layer by layer."""
        first = max(0, index - window)
        seen = [*range(min(sinks, first)), *range(first, index)]
        # directly before the window, however long ago they were
        stands = [block if block >= first else first - min(sinks, first) + block for block in seen]
        made = []
        for layer in range(config["num_layers"]):
            here = f"blocks.{layer}"
            zero, one = torch.zeros_like(x[:, :1]), torch.ones_like(x[:, :1])
            parts = [zero, zero, one, zero, zero, one]
            if vector is not None:
                name = f"{here}.adaLN_modulation.1"
                parts = (vector @ p[f"{name}.weight"].T + p[f"{name}.bias"])[:, None].split(hidden, -1)
            h = rms_norm(x, p[f"{here}.norm1.weight"]) * (1 + parts[1]) + parts[0]
            qkv = h @ p[f"{here}.attn.qkv.weight"].T + p[f"{here}.attn.qkv.bias"]
            q, k, v = (part.reshape(len(x), -1, heads, width) for part in qkv.split(hidden, -1))
            q = rms_norm(q, p[f"{here}.attn.q_norm.weight"])
            k = rms_norm(k, p[f"{here}.attn.k_norm.weight"])
            made.append((k, v))
            lengths = tuple(config["axis_lengths"])
            keys = [(past[layer][block][0], at(place)) for block, place in zip(seen, stands, strict=True)]
            keys = torch.cat(
                [rotate(bare, places, lengths, split) for bare, places in [*keys, (k, at(index))]], 1
            )
            values = torch.cat([*(past[layer][block][1] for block in seen), v], 1)
            q = rotate(q, at(index), lengths, split)
            weights = (torch.einsum("nqhd,nkhd->nhqk", q, keys) / math.sqrt(width)).softmax(-1)
            attended = torch.einsum("nhqk,nkhd->nqhd", weights, values).reshape(len(x), -1, hidden)
            x = x + parts[2] * (attended @ p[f"{here}.attn.proj.weight"].T + p[f"{here}.attn.proj.bias"])
            h = rms_norm(x, p[f"{here}.norm2.weight"]) * (1 + parts[4]) + parts[3]
            h = gelu(h @ p[f"{here}.mlp.fc1.weight"].T + p[f"{here}.mlp.fc1.bias"])
            x = x + parts[5] * (h @ p[f"{here}.mlp.fc2.weight"].T + p[f"{here}.mlp.fc2.bias"])
        return x, made

    answers = []
    for index in range(layout.num_blocks):
        embed = p["x_embedder.weight"]
        time = model.t_embedder(given.timestep[:, index], given.timestep.dtype)
        vector = torch.nn.functional.silu(time + p["y_embedder.embedding_table.weight"][given.labels])
        x, _ = through(given.noised[:, index] @ embed.T, index, vector)
        name = "final_layer.adaLN_modulation.1"
        shift, scale = (vector @ p[f"{name}.weight"].T + p[f"{name}.bias"])[:, None].split(hidden, -1)
        out = rms_norm(x, p["final_layer.norm_final.weight"]) * (1 + scale) + shift
        answers.append(out @ p["final_layer.linear.weight"].T + p["final_layer.linear.bias"])
        _, made = through(given.clean[:, index] @ embed.T, index, None)
        for layer, pair in enumerate(made):
            past[layer].append(pair)
    return torch.stack(answers, 1)


@pytest.mark.parametrize(("window", "sinks"), [(2, 1), (1, 2), (3, 2), (4, 0)])
@pytest.mark.parametrize("layout", [LAYOUTS[0], LAYOUTS[2]], ids=str)
def test_sinks_stand_directly_before_the_window(layout, window, sinks):
    model = tiny_model(dtype=torch.float64, axis_lengths=tuple(min(4, size) for size in layout.grid))
    given = tiny_inputs(layout, dtype=torch.float64)
    with torch.no_grad():
        expected = brute_force(model, layout, given, window, sinks)
        answers, cache = rolled(model, layout, given, window, sinks)
        assert relative_error(answers, expected) < 1e-9
        assert cache.num_evicted > 1
        if sinks:  # standing where they were written is another thing
            still = model(
                given.noised,
                given.timestep,
                layout=layout,
                clean=given.clean,
                labels=given.labels,
                window=window,
                sinks=sinks,
            ).sample
            assert relative_error(answers, still) > 1e-4


@pytest.mark.parametrize(("window", "sinks"), [(2, 0), (2, 1), (20, 1)])
@pytest.mark.parametrize("kept", [0, 1, 5])
def test_generate_rolls(window, sinks, kept):
    """Blocks after a prefix of any length, against a loop of calls; a wide window changes nothing."""
    layout = Layout((20, 2, 2), (2, 2, 2))
    model = tiny_model(dtype=torch.float64, axis_lengths=(4, 2, 2))
    noise, labels = draw_noise(range(2), layout, 3).double(), torch.tensor([0, 1])
    prefix = draw_noise([7, 8], layout, 3).double()[:, :kept]
    solver = default_sampler("flow")
    made = list(
        generate(
            model,
            layout,
            noise,
            scheduler=solver,
            steps=2,
            labels=labels,
            guidance=Guidance(1.5),
            prefix=prefix if kept else None,
            window=window,
            sinks=sinks,
        )
    )
    cache = model.new_cache(layout, 2, window=window, sinks=sinks)
    finished = [prefix[:, index : index + 1] for index in range(kept)]
    with torch.no_grad():
        for block in finished[:-1]:
            model(None, layout=layout, clean=block, cache=cache)
        for index in range(kept, layout.num_blocks):
            if finished:
                model(None, layout=layout, clean=finished[-1], cache=cache)
            solver.set_timesteps(2)
            sample = noise[:, index]
            for timestep in solver.timesteps:
                both = torch.stack((labels, torch.full_like(labels, TINY["num_classes"])), 1)
                answer = model(
                    sample[:, None].expand(-1, 2, -1, -1),
                    timestep.expand(2, 2),
                    layout=layout,
                    blocks=(index, index),
                    labels=both,
                    cache=cache,
                ).sample
                prediction = answer[:, 1] + 1.5 * (answer[:, 0] - answer[:, 1])
                sample = solver.step(prediction, timestep, sample, return_dict=False)[0]
            finished.append(sample[:, None])
    expected = torch.cat(finished[kept:], 1)
    assert [block.index for block in made] == list(range(kept, layout.num_blocks))
    assert relative_error(torch.stack([block.sample for block in made], 1), expected) < 1e-9
    assert made[-1].cache is not None and made[-1].cache.num_evicted == cache.num_evicted == max(
        0, 9 - window - sinks
    )


@pytest.mark.parametrize("sinks", [0, 1])
def test_flops_and_memory_of_a_block_do_not_grow(sinks):
    """As torch counts them on the meta device, and as the cache is held; without a window both grow."""
    layout = Layout((30, 2, 2), (2, 2, 2))
    with torch.device("meta"):
        model = ACDiTTransformer(3, (4, 2, 2), 2, 32, 2, num_classes=5)

    def costs(window, sinks, counted):
        """FLOPs of the counted blocks, since counting is slow, and bytes after every block."""
        cache, flops, sizes = model.new_cache(layout, 1, window=window, sinks=sinks), [], []
        for index in range(layout.num_blocks):
            counter = FlopCounterMode(display=False)
            with counter if index in counted else nullcontext():
                views = torch.empty(1, 1, 8, 3, device="meta")
                step = {"layout": layout, "blocks": (index,), "cache": cache}
                if index:
                    model(None, clean=views, layout=layout, cache=cache)
                model(views, torch.empty(1, 1, device="meta"), **step)
            flops += [counter.get_total_flops()] if index in counted else []
            sizes.append(cache.nbytes)
        return flops, sizes

    (first, *later), sizes = costs(3, sinks, (4 + sinks, 9, 14))
    growing, _ = costs(None, 0, (13, 14))
    assert later == [first] * 2 and first > 0 and len(set(sizes[4 + sinks :])) == 1
    assert growing[1] > growing[0] > 1.2 * first


def test_what_is_refused():
    layout = Layout((12, 2, 2), (2, 2, 2))
    model, given = tiny_model(axis_lengths=(4, 2, 2)), tiny_inputs(layout)
    with pytest.raises(ValueError, match="give the window too"):
        model.new_cache(layout, 2, sinks=1)
    with pytest.raises(ValueError, match="must be at least 1 and sinks at least 0, not 0 and 0"):
        model.new_cache(layout, 2, window=0)
    with pytest.raises(ValueError, match="sinks need blocks as long as the grid"):
        model.new_cache(Layout((12, 2, 2), (2, 1, 2)), 2, window=1, sinks=1)
    published = tiny_model(axis_lengths=(4, 2, 2), rope="published")
    with pytest.raises(ValueError, match="published rotary variant"):
        published.new_cache(layout, 2, window=1, sinks=1)
    published.new_cache(layout, 2, window=1)

    cache = model.new_cache(layout, 2, window=1)
    for other in ({"window": 2}, {"window": 1, "sinks": 1}):
        with pytest.raises(ValueError, match="has a window of 1 and 0 sinks"):
            model(None, layout=layout, clean=given.clean[:, :1], cache=cache, **other)
    with pytest.raises(ValueError, match="one by one"):
        model(None, layout=layout, clean=given.clean[:, :3], cache=cache)
    with torch.no_grad():
        for index in range(5):
            model(None, layout=layout, clean=given.clean[:, index : index + 1], cache=cache)
        with pytest.raises(ValueError, match="block 4 needs blocks that were evicted"):
            model(given.noised[:, [4]], given.timestep[:, [4]], layout=layout, blocks=(4,), cache=cache)
        with pytest.raises(ValueError, match="has room for 5 clean blocks"):
            model(None, layout=layout, clean=given.clean[:, 5:6], cache=cache)
    with pytest.raises(ValueError, match="in separate calls"), torch.no_grad():
        cache = model.new_cache(layout, 2, window=1, sinks=1)
        for index in range(2):
            model(None, layout=layout, clean=given.clean[:, index : index + 1], cache=cache)
        model(
            given.noised[:, [3]],
            given.timestep[:, [3]],
            layout=layout,
            blocks=(3,),
            clean=given.clean[:, 2:3],
            cache=cache,
        )
