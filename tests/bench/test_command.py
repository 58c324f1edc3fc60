"""`acdit bench` from words to files, in one process, at sizes that take no time."""

import json
import re

import pytest
from PIL import Image

from acdit.bench.rows import ROWS
from acdit.cli.bench import BenchOptions, parse_layout
from acdit.cli.main import main
from acdit.model.flops import Dimensions, forward_flops, training_flops
from acdit.model.layout import Layout
from acdit.model.sizes import SIZES
from acdit.training.build import build_layouts, network_size
from acdit.training.recipes import load_recipe

SMALL = ["--size", "S", "--layers", "1", "--classes", "10", "--repeats", "3"]


def bench(capsys, tmp_path, *words: str) -> tuple[list[dict], str]:
    """Rows of the JSON file, and what was printed."""
    out = tmp_path / "new" / "bench.json"
    assert main(["bench", *words, "--json", str(out)]) == 0
    return json.loads(out.read_text())["rows"], capsys.readouterr().out


def check_row(row: dict, printed: str, first: str) -> None:
    """Ratios, floors and shares follow from the times; all that is printed is a rounding of them."""
    contenders = row["contenders"]
    assert next(iter(contenders)) == first and contenders[first]["ratio"] == 1
    for name, each in contenders.items():
        low, median, high = sorted(each["seconds"])
        assert (each["least"], each["median"], each["most"]) == (low, median, high)
        assert each["ratio"] == pytest.approx(contenders[first]["median"] / median)
        assert each["floor_seconds"] == pytest.approx(each["flops"] / row["matmul_flops_per_second"])
        assert each["floor_share"] == pytest.approx(each["floor_seconds"] / median)
        assert each["relative_error"] < 1e-5
        line = (
            rf"^{re.escape(row['name'])} +{name} +{median:.3g} +{low:.3g} +{high:.3g} +{each['ratio']:.2f} "
        )
        assert re.search(line, printed, re.MULTILINE)


@pytest.mark.long
def test_training(capsys, tmp_path):
    plot = tmp_path / "bench.png"
    rows, printed = bench(
        capsys, tmp_path, "train", "--layout", "4x4/2x2,8x8/4x4,4x4/4x4", *SMALL, "--plot", str(plot)
    )
    assert [row["name"] for row in rows] == ["train 4x4/2x2", "train 8x8/4x4", "train 4x4/4x4"]
    assert [row["sequence_length"] for row in rows] == [16, 64, 16]
    for row in rows:
        check_row(row, printed, "published")
        assert all(each["bytes"]["peak"] > 0 for each in row["contenders"].values())
    network = Dimensions(4, 1, 128, 4, 512, 10, True)
    assert rows[1]["contenders"]["acdit"]["flops"] == training_flops(network, Layout((8, 8), (4, 4)))
    assert "threads" in printed and "allocator" in printed
    with Image.open(plot) as picture:
        assert picture.format == "PNG" and len(set(picture.convert("L").tobytes())) > 10


@pytest.mark.long
def test_compiled_training(capsys, tmp_path):
    (row,), printed = bench(capsys, tmp_path, "train", "--layout", "4x4/2x2", *SMALL, "--compile")
    check_row(row, printed, "published")
    assert list(row["contenders"]) == ["published", "acdit", "compiled"]
    assert 0 < row["contenders"]["compiled"]["relative_error"] != row["contenders"]["acdit"]["relative_error"]


def test_sampling(capsys, tmp_path):
    words = ["sample", "--layout", "4x4/2x2", "--patch", "2", "--steps", "2", *SMALL]
    (guided,), printed = bench(capsys, tmp_path, *words)
    check_row(guided, printed, "published")
    assert (guided["batch"], guided["guidance"]) == (2, 1.5)
    kept = {name: each["bytes"]["cache"] for name, each in guided["contenders"].items()}
    assert kept["acdit"] == 2 * 2 * 3 * 4 * 128 * 4  # keys and values, batch, blocks but the last, tokens, ..
    assert kept["published"] == 2 * kept["acdit"]
    (alone,), _ = bench(capsys, tmp_path, *words[:-1], "1", "--guidance", "1")
    assert {each["bytes"]["cache"] for each in alone["contenders"].values()} == {kept["acdit"]}
    assert all(
        alone["contenders"][name]["flops"] < guided["contenders"][name]["flops"]
        for name in ("acdit", "published")
    )


def test_text(capsys, tmp_path):
    words = ["text", "--layout", "8/2,8/8", "--size", "S", "--layers", "2", "--repeats", "3"]
    rows, printed = bench(capsys, tmp_path, *words)
    network = Dimensions(258, 2, 128, 4, 512, None, False, discrete=True)
    for row, size in zip(rows, (2, 8), strict=True):
        check_row(row, printed, "uncached")
        both, layout = row["contenders"], Layout((8,), (size,))
        assert both["acdit"]["relative_error"] == 0  # the same tokens
        assert both["acdit"]["tokens_per_second"] == pytest.approx(8 / both["acdit"]["median"])
        assert re.search(rf"{size} evaluations a block; tokens/s: uncached [\d,]+, acdit [\d,]+\n", printed)
        again = sum(forward_flops(network, layout, blocks=(block,)) for block in range(8 // size))
        assert both["uncached"]["flops"] == size * again
    assert rows[0]["contenders"]["acdit"]["flops"] < rows[0]["contenders"]["uncached"]["flops"]
    assert rows[1]["contenders"]["acdit"]["flops"] == rows[1]["contenders"]["uncached"]["flops"]
    (quick,), _ = bench(capsys, tmp_path, *words[:2], "8/8", *words[3:-1], "1", "--steps", "2")
    assert 4 * quick["contenders"]["acdit"]["flops"] == rows[1]["contenders"]["acdit"]["flops"]


@pytest.mark.long
@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_attention(capsys, tmp_path):
    words = ["attention", "--layout", "2x4x4/1x4x4,2x4x4/2x4x4", "--size", "S", "--repeats", "3"]
    rows, printed = bench(capsys, tmp_path, *words)
    for row in rows:
        check_row(row, printed, "dense")
    for forward, both in (rows[:2], rows[2:]):
        assert list(forward["contenders"]) == ["dense", "split", "flex"]
        assert list(both["contenders"]) == ["dense", "split"]  # FlexAttention has no backward on the CPU
        assert both["contenders"]["split"]["flops"] == 3 * forward["contenders"]["split"]["flops"]


@pytest.mark.long
def test_half_precision(capsys, tmp_path):
    for work in ("train", "sample"):
        words = [work, "--layout", "4x4/2x2", *SMALL, "--dtype", "bfloat16"]
        (row,), _ = bench(capsys, tmp_path, *words)
        assert 1e-4 < row["contenders"]["acdit"]["relative_error"] < 0.2


def test_named_rows():
    assert BenchOptions().chosen() == list(ROWS.values())
    assert [row.name for row in BenchOptions(work="sample").chosen()] == [
        "sample-4",
        "sample-16",
        "sample-64",
    ]
    assert BenchOptions(rows=["train-1", "sample-4"]).chosen() == [ROWS["train-1"], ROWS["sample-4"]]
    for name, row in ROWS.items():
        blocks = name.rpartition("-")[2]
        if blocks.isdigit():
            tokens = 256 if row.work == "text" else 1024
            assert (row.tokens.num_tokens, row.tokens.num_blocks) == (tokens, int(blocks))
        assert row.size in SIZES
    video = ROWS["train-video"].tokens
    assert (video.num_tokens, video.num_blocks, video.patch) == (4096, 4, (1, 2, 2))


def test_the_row_of_the_digits_is_the_recipe():
    recipe, row = load_recipe("mnist"), ROWS["train-digits"]
    assert row.tokens == build_layouts(recipe, (32, 32))[0]
    assert (row.size, row.layers, row.batch) == (recipe.model.size, None, recipe.training.batch_size)
    assert network_size(recipe.model) == SIZES[row.size] and row.channels == recipe.data.channels


def test_layouts_are_read():
    assert parse_layout("16x16x16/4x16x16", 2) == Layout((16, 16, 16), (4, 16, 16), (1, 2, 2))
    assert parse_layout("8x8/4x4", 4) == Layout((8, 8), (4, 4), (4, 4))
    assert parse_layout("64/8") == Layout((64,), (8,))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("foo", ["train, sample, text, attention", "'foo'"]),
        ("--rows train-5", ["'train-5'", "train-4?"]),
        ("sample --rows train-4", ["train-4", "sample"]),
        ("--rows ,", ["--rows"]),
        ("--layout 4x4/2x2", ["--layout", "acdit bench train"]),
        ("train --layout 4x4", ["GRID/BLOCK", "'4x4'"]),
        ("train --layout 4x4/3x3", ["does not tile"]),
        ("train --layout 4x4/a", ["--layout", "'a'"]),
        ("train --layout ,", ["--layout", "at least one"]),
        ("train --layout 2x2x2x2/2x2x2x2", ["1 to 3 axes"]),
        ("train --layout 4x4/2x2 --rows train-4", ["--rows", "--layout"]),
        ("train --layout 4x4/2x2 --steps 3", ["--steps only applies to sample and text, not to train"]),
        ("text --layout 8/2 --guidance 2", ["--guidance only applies to sample, not to text"]),
        ("text --layout 8/2 --classes 5", ["--classes only applies to train and sample, not to text"]),
        ("text --layout 8/2 --patch 2", ["--patch only applies to train and sample, not to text"]),
        ("attention --layout 4x4/2x2 --layers 2", ["--layers only applies to train, sample and text, not"]),
        ("attention --layout 4x4/2x2 --channels 2", ["--channels only applies to train, sample and text"]),
        ("train --size S --layers 2", ["--size, --layers", "--layout"]),
        ("train --layout 4x4/2x2 --batch 0", ["--batch", "0"]),
        ("sample --compile", ["--compile", "training"]),
        ("--rows sample-4 --compile", ["--compile", "training"]),
        ("--repeats 0", ["--repeats", "0"]),
        ("--plot a.png", ["--plot", "--layout"]),
        ("train --layout 4x4/2x2,4x4/4x4 --plot a.png", ["--plot", "sequence lengths"]),
        ("train --layout 4x4/2x2 --plot a.jpg", ["--plot", ".png", "'a.jpg'"]),
        ("--json a.txt", ["--json", ".json", "'a.txt'"]),
        ("--device abacus", ["--device", "abacus"]),
        ("--json file/a.json", ["cannot be written"]),
    ],
)
def test_bad_input_is_one_line(tmp_path, monkeypatch, capsys, words, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    assert main(["bench", *words.split()]) == 2
    out, err = capsys.readouterr()
    assert not out and err.startswith("acdit: error: ") and err.count("\n") == 1
    for word in said:
        assert word in err
