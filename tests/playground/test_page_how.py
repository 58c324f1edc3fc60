"""The tab How it works: figures as `acdit info` prints them, and a mask as a loop over the rule makes it."""

import json
import shlex
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from acdit.cli.main import main
from acdit.model.layout import Layout, parse_dims
from acdit.playground.how import LARGEST_MASK, explain, mask_picture, pixel_tokens
from acdit.playground.shelf import Shelf
from tests.playground.page import opened

UNSEEN, CLEAN, NOISED = 0, 1, 2


@pytest.mark.parametrize(
    ("model", "what", "blocks"),
    [
        ("mnist", "image", ["8x8", "4x4", "1x1"]),
        ("moving-digits", "video", ["2x8x8"]),
        ("shakespeare", "text", ["16", "1"]),
        ("picture", "image", ["2x2"]),
        ("letters", "text", ["8", "4", "2"]),
    ],
)
def test_costs_are_those_of_the_command(model, what, blocks, page, folders, capsys):
    for block in blocks:
        status, answer = page.post("/api/how", {"model": model, "block": block})
        assert status == 200
        assert main(["info", str(folders.get(model, model)), "--block", block, "--json"]) == 0
        facts = json.loads(capsys.readouterr().out)
        assert answer["flops"]["block_by_block"] == facts[f"sampling_FLOPs_per_{what}"]
        assert answer["cache"][-1]["bytes"] == facts[f"cache_bytes_per_{what}"]
        assert answer["blocks"] == facts["blocks"] == len(answer["cache"])
        flops = answer["flops"]
        assert flops["saving"] == pytest.approx(1 - flops["block_by_block"] / flops["full_sequence"])


def test_the_whole_as_one_block_saves_nothing(page):
    _, answer = page.post("/api/how", {"model": "mnist", "block": "8x8"})
    assert answer["flops"]["saving"] == 0 and answer["cache"] == [{"block": 0, "tokens": 0, "bytes": 0}]
    assert "one block" in answer["text"]


def test_the_mask_is_the_rule_of_the_paper(page):
    _, answer = page.post("/api/how", {"model": "mnist", "block": "4x4"})
    mask = np.asarray(opened(answer["mask"]))
    blocks, tokens = 4, 16
    clean = (blocks - 1) * tokens
    expected = np.zeros((clean + blocks * tokens,) * 2)
    for query in range(len(expected)):
        for key in range(len(expected)):
            noised_query, noised_key = query >= clean, key >= clean
            i = (query - clean * noised_query) // tokens
            j = (key - clean * noised_key) // tokens
            if noised_query and noised_key and i == j:
                expected[query, key] = NOISED
            if not noised_key and (j < i or (j == i and not noised_query)):
                expected[query, key] = CLEAN
    assert np.array_equal(mask, expected)


def test_blocks_are_numbered_in_raster_order(page):
    _, answer = page.post("/api/how", {"model": "picture", "block": "2x2"})
    assert answer["order"] == [[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 3, 3], [2, 2, 3, 3]]
    _, answer = page.post("/api/how", {"model": "shakespeare", "block": "128"})
    assert answer["order"] == [[0] * 128 + [1] * 128]
    _, answer = page.post("/api/how", {"model": "clip", "block": "2x4x4"})
    assert answer["order"] == [[0] * 4] * 8 + [[1] * 4] * 8


@pytest.mark.parametrize(
    "layout", [Layout((4096,), (1,)), Layout((64, 64), (64, 64)), Layout((128, 128), (64, 64))]
)
def test_a_long_sequence_has_a_small_picture(layout):
    picture, shown = mask_picture(layout)
    assert isinstance(picture, Image.Image) and max(picture.size) <= LARGEST_MASK
    assert 1 <= shown <= layout.num_blocks


@pytest.mark.parametrize(
    ("model", "block"),
    [("mnist", "2x2"), ("moving-digits", "2x8x8"), ("shakespeare", "4"), ("my 'own' photos", "2x2")],
)
def test_the_copied_texts_print_the_same_figures(model, block, page, folders, tmp_path, capsys):
    if model in ("mnist", "moving-digits", "shakespeare"):
        _, answer = page.post("/api/how", {"model": model, "block": block})
    else:
        shutil.copytree(folders["picture"], tmp_path / model)
        shelf = Shelf([str(tmp_path / model)])
        answer = explain(shelf.cards[model], parse_dims(block), shelf.machine)
    exec(compile(answer["python"], "copied.py", "exec"), {})
    printed = capsys.readouterr().out
    assert str(answer["flops"]["block_by_block"]) in printed
    assert str(answer["cache"][-1]["bytes"]) in printed
    assert main(shlex.split(answer["command"])[1:]) == 0
    assert f"{answer['flops']['block_by_block']:,}" in capsys.readouterr().out


def test_the_copied_code_runs_in_another_precision(folders, capsys):
    shelf = Shelf([str(folders["picture"])], dtype=torch.bfloat16)
    answer = explain(shelf.cards["picture"], (2, 2), shelf.machine)
    exec(compile(answer["python"], "copied.py", "exec"), {})
    printed = capsys.readouterr().out
    assert str(answer["cache"][-1]["bytes"]) in printed
    assert main(shlex.split(answer["command"])[1:]) == 0
    assert f"{answer['cache'][-1]['bytes']:,}" in capsys.readouterr().out
    single = Shelf([str(folders["picture"])])
    full = explain(single.cards["picture"], (2, 2), single.machine)
    assert full["cache"][-1]["bytes"] == 2 * answer["cache"][-1]["bytes"]


@pytest.mark.parametrize(
    ("layout", "unit"),
    [(Layout((64,), (4,)), "token"), (Layout((4096,), (1024,)), "block"), (Layout((4096,), (1,)), "token")],
)
def test_a_row_of_the_mask_is_a_token_or_a_block(layout, unit):
    assert (pixel_tokens(layout) == layout.block_tokens) == (unit == "token")
    picture, shown = mask_picture(layout)
    rows = layout.block_tokens if unit == "token" else 1
    assert picture.size == ((2 * shown - 1) * rows,) * 2


def test_the_page_is_told_what_a_row_of_the_mask_is(page):
    assert page.post("/api/how", {"model": "mnist", "block": "4x4"})[1]["unit"] == "token"
