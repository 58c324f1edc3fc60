"""Every random key in the package, and what is drawn first for it: neither may ever change."""

import ast
from itertools import count, product
from pathlib import Path

import pytest
import torch

import acdit
from acdit.utils.randomness import generator, seed_of

# A key: its texts, and 1, 2, 3 .. in place of its numbers; * = (5, 6), a key that a caller hands on.
# Beside it the seed, and the first number that torch draws from it.
PINNED: dict[tuple[str | int, ...], tuple[int, float]] = {
    ("held-out", 1): (8827652876693133954, 0.23201185910584432),
    ("moving digits", "held out", 1): (8207686679251875991, 0.26939409854822827),
    ("moving digits", "training", 1): (2985609685643742009, 0.6683359369771401),
    ("texts to score",): (5850327517385267607, 0.4391769387950759),
    ("validation", "latent"): (1497349549452255261, 0.9018221874848701),
    ("validation",): (4596651946244599661, 0.7431204069815476),
    (1, "*"): (8533690537248973452, 0.5107969896310586),
    (1, "clip", 2, 3): (3804224397643403729, 0.4445729099653666),
    (1, "context", 2, 3): (7937507574073811032, 0.754380860443376),
    (1, "diffusion", "*"): (6298665556627102302, 0.520990553930843),
    (1, "flip", 2, 3): (2849433116272127444, 0.2677462041415041),
    (1, "frame", 2): (1736125123882824382, 0.4132054980048857),
    (1, "initialisation"): (5658811387769314900, 0.5897919226390218),
    (1, "label"): (7060540535911692587, 0.6345059070050352),
    (1, "latent", 2, 3): (6552129356009860981, 0.42311362588205426),
    (1, "layout", 2): (622570470401432098, 0.8238842062807089),
    (1, "likelihood", 2, 3, 4): (785216424963997283, 0.9342044935627135),
    (1, "masked", "*", 2): (567239133528688725, 0.331477712594052),
    (1, "order", 2): (1671847539343688486, 0.6853915411324353),
    (1, "projections"): (4304871941197337525, 0.08327208510398798),
    (1, "sample", 2): (6589230940483494142, 0.10041831078967833),
    (1, "scaling"): (3315786212136534048, 0.7217766217380834),
    (1, "strata", 2, 3): (5650073990256118716, 0.09609749073601215),
    ("intervals", 1): (6542214535650658050, 0.42806837252757424),
    ("metric faults", 1, 2, 3): (2743529002246787383, 0.6345840878696526),
    ("real texts",): (8749244332542586436, 0.21677286131038176),
    ("tiles", 1): (2520244350189835351, 0.4280032118059267),
    (1, "inception score"): (8507297298661850625, 0.8457343096818181),
    (1, "resampling"): (4049279092286045729, 0.5244825114669711),
    (1, "simulated", 2, 3): (3983136462960429816, 0.8484911419926543),
    (1, "subsets"): (77041731542315143, 0.23479737680576374),
    (1, "ordered tails", "*", 2): (3889757697500201499, 0.06639293341388364),
    (1, "time", 2): (4647752364339716262, 0.8497470197190743),
    (1, "views", 2): (6125013796565206130, 0.9368205833738895),
    ("classifier noise",): (338247592630678, 0.628353506475338),
    (1, "classifier noise", 2, 3): (1359131044520871357, 0.45963050915769543),
    (1, "drop path", 2, 3): (5965786244476961113, 0.8653845222808121),
    (1, "generative classifier", 2, "latent"): (2567011937758411235, 0.7954393838896068),
    (1, "generative classifier", 2, "times"): (4411651894756957213, 0.6607523518106387),
    (1, "generative classifier", 2, 3): (3892269690027973989, 0.2893361973035625),
    (1, "labels per class", 2): (7358163196431545301, 0.2459235622970709),
    (1, "mix", 2, 3): (506482503787967903, 0.047786124237850225),
    (1, "randaugment", 2, 3): (2411377241073320955, 0.4503701664532559),
    (1, "rotation", 2, 3): (6228805172113084054, 0.2613904821711933),
    (1, "shift", 2, 3): (1717580099008781597, 0.433919904552427),
}
# Keys that stand in the package as *.
HANDED_ON: dict[tuple[str | int, ...], tuple[int, float]] = {
    (1, "posterior", 2, 3): (6226376758080578168, 0.5528334137470794),
    (1, "scaling", 2): (8402493530669080833, 0.0939889028132157),
}


def keys_in_the_package() -> set[tuple[str | int, ...]]:
    """The arguments of all calls of `generator` and `seed_of`, as `PINNED` writes them."""
    found = set()
    for path in Path(acdit.__file__).parent.rglob("*.py"):
        if path.name == "randomness.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            named = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id
            if isinstance(node, ast.Call) and named in ("generator", "seed_of"):
                found |= set(product(*_parts(node.args)))
    return found


def _parts(arguments: list[ast.expr]) -> list[list[str | int]]:
    """What each argument may be: a text, one of two texts, or a number."""
    parts: list[list[str | int]] = []
    numbers = count(1)
    for argument in arguments:
        choices = [argument.body, argument.orelse] if isinstance(argument, ast.IfExp) else [argument]
        texts = [
            each.value for each in choices if isinstance(each, ast.Constant) and isinstance(each.value, str)
        ]
        if isinstance(argument, ast.Starred):
            parts.append(["*"])
        else:
            parts.append([*texts] if texts else [next(numbers)])
    return parts


def test_every_key_is_pinned():
    assert keys_in_the_package() == set(PINNED)


@pytest.mark.parametrize("key", PINNED | HANDED_ON, ids=lambda key: " ".join(map(str, key)))
def test_the_first_value_of_a_key(key):
    flat = [part for each in key for part in ((5, 6) if each == "*" else (each,))]
    seed, first = (PINNED | HANDED_ON)[key]
    assert seed_of(*flat) == seed
    assert torch.rand((), generator=generator(*flat), dtype=torch.float64).item() == first
