"""`acdit` on models of text: what it writes and scores, and one line for what it cannot."""

import json
import re
from itertools import product

import pytest
import torch
from torch.nn.modules.module import register_module_forward_pre_hook

from acdit.cli.main import main
from acdit.diffusion.masked_schedulers import AncestralScheduler
from acdit.diffusion.ordered_schedulers import FixedOrderScheduler
from acdit.generation.text_files import separated
from acdit.model.transformer import ACDiTTransformer
from acdit.pipelines.loading import load_pipeline
from acdit.pipelines.text import ACDiTTextPipeline
from tests.cli.text_model import BYTES, LENGTH, drawn
from tests.pipelines.test_text import network

pytestmark = pytest.mark.usefixtures("elsewhere")


def test_a_text_grows_in_the_terminal(small, capsys, tmp_path):
    command = [
        "sample",
        "--model",
        small,
        "--prompt",
        "To be, or",
        "--max-new-tokens",
        "9",
        "--seed",
        "5",
    ]
    assert main([*command, "--top-p", "0.9", "--temperature", "0.7", "--block", "8", "--steps", "4"]) == 0
    out, err = capsys.readouterr()
    options = {"max_new_tokens": 9, "top_p": 0.9, "temperature": 0.7, "block": 8, "num_inference_steps": 4}
    assert out == drawn(small, "To be, or", 5, **options) + "\n"
    assert "9 tokens in" in err and "8 evaluations" in err
    assert not list(tmp_path.iterdir())


def test_gaps_are_filled(small, capsys):
    command = ["sample", "--model", small, "--gaps", "To ___ or", "--seed", "5", "--block", "4"]
    assert main(command) == 0
    text = capsys.readouterr().out
    pipeline = load_pipeline(small, kind=ACDiTTextPipeline)
    mask = pipeline.tokenizer.mask
    tokens = torch.tensor([[*b"To ", mask, mask, mask, *b" or"]])
    assert (
        text == pipeline(tokens=tokens, block=4, generator=torch.Generator().manual_seed(5)).texts[0] + "\n"
    )


def test_several_texts_into_a_file(small, capsys, tmp_path):
    command = ["sample", "--model", small, "--prompt", "x", "--samples", "3", "--seed", "2"]
    assert main([*command, "--out", "deep/texts.txt"]) == 0
    said = capsys.readouterr().out
    tokens = re.fullmatch(r"deep/texts.txt: 3 texts, (\d+) tokens in .*\n", said)
    assert tokens and 3 <= int(tokens[1]) <= 3 * (LENGTH - 1)
    expected = f"\n{'-' * 80}\n".join(drawn(small, "x", 2 + row) for row in range(3))
    assert (tmp_path / "deep" / "texts.txt").read_text() == expected + "\n"
    assert main(command) == 0
    assert capsys.readouterr().out == expected + "\n"


@pytest.mark.parametrize("batch", [1, 2, 5, 64])
def test_texts_do_not_depend_on_the_batch(small, capsys, tmp_path, batch):
    """In a file, and in the terminal, the texts are those of their seeds, and no more of them run at once."""
    rows = []

    def record(module, arguments):
        if isinstance(module, ACDiTTransformer):
            rows.append(len(arguments[0]))

    command = ["sample", "--model", small, "--prompt", "x", "--samples", "5", "--seed", "2"]
    hook = register_module_forward_pre_hook(record)
    try:
        assert main([*command, "--batch", str(batch), "--out", "texts.txt"]) == 0
        calls = len(rows)
        said = capsys.readouterr().out
        assert main([*command, "--batch", str(batch)]) == 0
    finally:
        hook.remove()
    expected = f"\n{'-' * 80}\n".join(drawn(small, "x", 2 + row) for row in range(5))
    assert (tmp_path / "texts.txt").read_text() == expected + "\n" == capsys.readouterr().out
    assert max(rows) == min(batch, 5) and f"; {calls} evaluations" in said
    numbers = re.fullmatch(r"texts.txt: 5 texts, (\d+) tokens in .*\n", said)
    assert numbers and int(numbers[1]) == tokens_of(small, range(2, 7))


def tokens_of(small, seeds):
    """The number of tokens that the pipeline adds to the prompt, ends included, for these seeds."""
    pipe = load_pipeline(small)
    pipe.set_progress_bar_config(disable=True)
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    texts = pipe(["x"] * len(generators), generator=generators, output_type="tokens").texts
    return sum(len(text) - 1 for text in texts)


def test_gaps_do_not_depend_on_the_batch(small, capsys):
    command = ["sample", "--model", small, "--gaps", "To ___ or", "--samples", "3", "--block", "4"]
    printed = []
    for batch in ("1", "2", "3"):
        assert main([*command, "--batch", batch]) == 0
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1] == printed[2] and len(set(separated(printed[0]))) > 1


def test_a_refused_prompt_leaves_nothing(small, tmp_path):
    command = ["sample", "--model", small, "--prompt", "x" * LENGTH, "--samples", "2"]
    assert main([*command, "--out", "deep/texts.txt"]) == 2
    assert not list(tmp_path.iterdir())


def test_info_of_a_text_model(small, capsys):
    assert main(["info", small, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["vocabulary"] == 258 and facts["sequence_length"] == LENGTH
    assert facts["parameters"] == load_pipeline(small).transformer.num_parameters()
    assert {"forward_FLOPs_per_text", "sampling_FLOPs_per_text", "cache_bytes_per_text"} <= set(facts)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["sample", "--prompt", "x" * LENGTH], f"prompt must be shorter than the model's {LENGTH} tokens"),
        (["sample", "--prompt", "x\udcff"], "not valid Unicode"),
        (["sample", "--gaps", "To __ or"], "the text has no gap: write ___"),
        (["sample", "--gaps", "To ___", "--prompt", "To"], "leave out --prompt and --max-new-tokens"),
        (
            ["sample", "--labels", "1,2"],
            "--labels: only for models of images and video, but this is a model of text",
        ),
        (["sample", "--guidance", "2"], "--guidance: only for models of images and video"),
        (["sample", "--out", "a.png"], "--out a.png: only for models of images and video"),
        (["sample", "--temperature", "-1"], "--temperature must be at least 0"),
        (["sample", "--top-p", "0"], "--top-p must be above 0"),
        (["sample", "--max-new-tokens", "0"], "--max-new-tokens must be at least 1"),
        (["sample", "--block", "5"], "block must divide"),
        (["sample", "--block", "2x2"], "2x2"),
        (["evaluate", "--data", "empty.txt"], "empty.txt is an empty file"),
        (["evaluate", "--data", "latin.txt"], "latin.txt is not UTF-8: byte 0xe9"),
        (["evaluate", "--data", "/no/such/file"], "/no/such/file"),
        (["evaluate", "--data", "good.txt", "--block", "5"], "5"),
        (["evaluate", "--data", "/no/such/file", "--block", "2x2"], "--block of texts must have 1 size"),
        (["evaluate", "--data", "short.txt", "--times"], "--times needs texts of at least one full block, 4"),
        (["bench", "text", "--layout", "16/4", "--channels", "1"], "--channels must be at least 2"),
        (["train", "laptop-text", "--data.tokenizer", "empty.json"], "empty.json is not a tokenizer file"),
        (["evaluate", "--data", "/no/such/file", "--judge", "/no/judge"], "--judge /no/judge"),
        (["evaluate", "--texts", "5", "--count", "5"], "--texts is the former name of --count"),
        (["evaluate", "--samples", "5", "--sequences", "5"], "--samples NUMBER is the former name of --seq"),
        (["evaluate", "--sequences", "0"], "--sequences 0 leaves nothing to measure"),
        (["evaluate", "--sequences", "0", "--times"], "leave out --sequences 0"),
        (["evaluate", "--plot", "a.png", "--count", "2"], "add --temperatures"),
        (["evaluate", "--plot", "a.jpg", "--temperatures", "1"], "--plot"),
        (["evaluate", "--temperatures", "-1"], "--temperatures must be at least 0"),
        (["evaluate", "--metrics", "distinct_4", "--data", "good.txt"], "did you mean distinct_"),
        (["evaluate", "--features", "pixels", "--data", "good.txt"], "for image and video, not for text"),
        (["evaluate", "--metrics", "generative_perplexity", "--data", "good.txt"], "an external language"),
        (["evaluate", "--samples", "good.txt"], "name them with --data"),
        (
            ["evaluate", "--samples", "good.txt", "--data", "good.txt", "--model", "shakespeare"],
            "--model: for",
        ),
        (["evaluate", "--samples", "none.txt", "--data", "good.txt"], "none.txt does not exist"),
        (["evaluate", "--samples", "empty.txt", "--data", "good.txt"], "empty.txt is an empty file"),
        (["evaluate", "--samples", "good.txt", "--data", "good.txt", "--count", "2"], "holds 1 texts, fewer"),
        (["evaluate", "--samples", "good.txt", "--data", "good.txt", "--block", "4"], "--block: for models"),
        (["evaluate", "--samples", "good.txt", "--data", "none.txt"], "none.txt"),
        (
            ["evaluate", "--samples", "good.txt", "--data", "good.txt", "--metrics", "token_entropy"],
            "token_entropy of good.txt cannot be computed: it needs the token ids of a model",
        ),
        (
            ["evaluate", "--samples", "short.txt", "--data", "good.txt", "--metrics", "distinct_2"],
            "distinct_2 of short.txt cannot be computed: no text has 2 words",
        ),
        (
            ["evaluate", "--samples", "good.txt", "--data", "good.txt", "--features", "minilm"],
            "they need 2 texts, not 1",
        ),
        (["evaluate", "--split", "test"], "add --data"),
        (
            ["evaluate", "--order", "lft"],
            "--order must be random, left, right, lowest-entropy or the positions",
        ),
        (["evaluate", "--order", "lft"], "not 'lft'; did you mean left?"),
        (["evaluate", "--order", "0,0"], "--order must hold every position of a block once"),
        (["evaluate", "--order", "1,0", "--data", "/no/file"], "order 1,0 is for blocks of 2 tokens, not 4"),
        (
            ["evaluate", "--order", "1,0", "--block", "2,4", "--data", "good.txt"],
            "order 1,0 is for blocks of 2 tokens, not 4",
        ),
        (["evaluate", "--order", "left", "--times"], "masked at random: leave out --order"),
        (
            ["evaluate", "--samples", "good.txt", "--data", "good.txt", "--order", "left"],
            "--order: for models",
        ),
        (
            [
                "evaluate",
                "--samples",
                "good.txt",
                "--data",
                "good.txt",
                "--draws",
                "9",
                "--estimate",
                "counts",
            ],
            "--draws, --estimate: for models",
        ),
        (["sample", "--scheduler", "lef"], "not 'lef'; did you mean left?"),
        (["sample", "--scheduler", "unipc"], "--scheduler must be one of ancestral, confidence"),
        (["evaluate", "--fast"], "--fast: only for models of images and video"),
        (["tokenizer"], "tokenizer needs texts"),
        (["tokenizer", "good.txt", "--size", "100"], "at least 257 ids"),
        (["tokenizer", "good.txt", "--out", "a.txt"], "--out"),
        (["train", "laptop-text", "--data.source", "empty.txt"], "empty.txt is an empty file"),
        (["train", "laptop-text", "--data.tokenizer", "good.txt"], "good.txt is not a tokenizer file"),
    ],
)
def test_bad_input_is_one_line(small, capsys, tmp_path, words, said):
    (tmp_path / "empty.txt").write_bytes(b"")
    (tmp_path / "empty.json").write_text('{"acdit": "subwords"}')
    (tmp_path / "short.txt").write_text("a")
    (tmp_path / "latin.txt").write_bytes("na\xefve caf\xe9".encode("latin-1").replace(b"\xef", b"i"))
    (tmp_path / "good.txt").write_text("good " * 20)
    finished = "--samples" in words and words[words.index("--samples") + 1].endswith(".txt")
    own = ["--model", small] if words[0] in ("sample", "evaluate") and not finished else []
    assert main([*words, *own]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and said in err and err.startswith("acdit: error: ")


def test_other_models_refuse_what_is_of_text(capsys):
    assert main(["sample", "--model", "mnist", "--prompt", "x", "--top-p", "0.5"]) == 2
    assert (
        "--prompt, --top-p: only for models of text, but this is a model of images" in capsys.readouterr().err
    )
    assert main(["evaluate", "--model", "mnist", "--times"]) == 2
    assert "--times: only for models of text" in capsys.readouterr().err
    assert main(["evaluate", "--model", "mnist", "--order", "left"]) == 2
    assert "--order: only for models of text, but this is a model of images" in capsys.readouterr().err
    assert main(["sample", "--model", "mnist", "--scheduler", "left"]) == 2
    assert "--scheduler: only for models of text" in capsys.readouterr().err


def test_models_with_times_refuse_orders(capsys, tmp_path):
    timed = network(time_conditioning=True).float()
    scheduler = AncestralScheduler(mask_token=BYTES.mask)
    ACDiTTextPipeline(timed, scheduler, grid=[LENGTH], block=[4]).save_pretrained(tmp_path / "timed")
    (tmp_path / "a.txt").write_text("full of sound and fury " * 20)
    for words in (
        ["evaluate", "--data", "a.txt", "--order", "left"],
        ["evaluate", "--data", "a.txt", "--order", "lowest-entropy", "--count", "2"],
        ["sample", "--scheduler", "right"],
    ):
        assert main([*words, "--model", "timed"]) == 2
        err = capsys.readouterr().err
        assert err.count("\n") == 1 and "is for networks without time conditioning" in err


def test_a_scheduler_by_its_name(small, capsys):
    """In order and at temperature 0, all seeds give the text that the pipeline gives; others differ."""
    pipe = load_pipeline(small)
    pipe.set_progress_bar_config(disable=True)
    pipe.scheduler = FixedOrderScheduler(mask_token=BYTES.mask, positions="right")
    expected = pipe("ab", temperature=0.0, max_new_tokens=12).texts[0]
    printed = []
    for name, temperature, seed in product(("right", "first-hitting"), ("0", "1"), ("0", "1", "2")):
        words = ["sample", "--model", small, "--prompt", "ab", "--max-new-tokens", "12", "--seed", seed]
        assert main([*words, "--scheduler", name, "--temperature", temperature]) == 0
        printed.append(capsys.readouterr().out)
    assert printed[:3] == [expected + "\n"] * 3
    assert len(set(printed[3:])) > 3


def test_a_tokeniser_of_another_model_is_refused(small, capsys, tmp_path):
    (tmp_path / "a.txt").write_text("full of sound and fury " * 20)
    assert main(["tokenizer", "a.txt", "--size", "300", "--out", "bpe.json"]) == 0
    pipe = load_pipeline(small)
    pipe.save_pretrained(tmp_path / "other")
    (tmp_path / "bpe.json").replace(tmp_path / "other" / "tokenizer.json")
    assert main(["sample", "--model", "other"]) == 2
    assert "the tokenizer does not fit the network" in capsys.readouterr().err
