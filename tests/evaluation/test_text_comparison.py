"""Scores of texts beside real ones: which texts are compared, what is computed, and what is left out."""

import math
import shutil
from pathlib import Path

import datasets
import pytest
import torch

from acdit.data.texts import WrappedTexts
from acdit.data.tokenizers import ByteTokenizer
from acdit.evaluation.evaluate import evaluate_samples
from acdit.evaluation.features import minilm
from acdit.evaluation.report import Report, Score
from acdit.evaluation.temperature_plot import plot_temperatures
from acdit.evaluation.text_comparison import TextComparison, compare_texts
from acdit.evaluation.text_metrics import TEXT_METRICS, text_scores
from acdit.evaluation.text_samples import (
    RealTexts,
    TextSamples,
    TextSource,
    real_passages,
    real_sequences,
    stored_texts,
)
from acdit.evaluation.texts import temperature_series, text_table
from acdit.generation.text_files import save_texts
from acdit.metrics.distances import frechet
from acdit.utils.errors import UserError

BYTES = ByteTokenizer()
WORDS = [f"w{number}" for number in range(1000)]


def documents(*lengths):
    """Documents of numbered words, of the given numbers of words."""
    starts = [sum(lengths[:index]) for index in range(len(lengths))]
    return [" ".join(WORDS[first : first + size]) for first, size in zip(starts, lengths, strict=True)]


def test_passages_have_the_length_of_the_samples(tmp_path):
    """They are consecutive words of the data, and the two sets hold none in common."""
    for number, text in enumerate(documents(70, 33, 200)):
        (tmp_path / f"{number}.txt").write_text(text)
    samples = TextSamples(["a b c d e"] * 20 + ["a b c d e f g"] * 20)
    real = real_passages(TextSource(str(tmp_path)), samples)
    assert real is not None and real.other is None and len(real.reference) == 40  # of 50 passages
    found = [number for words in real.reference.words for number in words]
    assert len(set(found)) == len(found) == 40 * 6
    for words in real.reference.words:
        first = int(words[0][1:])
        assert words == [f"w{number}" for number in range(first, first + 6)] and first % 6 == 0
    assert [int(words[0][1:]) for words in real.reference.words] != sorted(range(0, 240, 6))

    real = real_passages(TextSource(str(tmp_path)), TextSamples(["a b"] * 70))
    assert real is not None and real.other is not None and len(real.other) == 70
    of_both = [word for part in (real.reference, real.other) for words in part.words for word in words]
    assert len(set(of_both)) == len(of_both) == 280
    assert real_passages(TextSource(str(tmp_path)), TextSamples(["a b"] * 152)) is None
    with pytest.raises(UserError, match="holds no words"):
        real_passages(TextSource(str(tmp_path)), TextSamples(["", " \n"]))


def test_real_sequences_are_cut_as_generated_ones():
    """At the first end of a text, which is part of the tokens; the unfinished last sequence is left out."""
    texts = [b"abcdefgh", b"ij", b"klmnopqrst"]
    data = WrappedTexts([list(text) for text in texts], [8, 2, 10], 4, BYTES, [8, 2, 10])
    stream = [*b"abcdefgh", 256, *b"ij", 256, *b"klmnopqrst", 256]
    assert len(stream) == 23
    real = real_sequences(data, 5, "texts")
    assert real is not None and real.other is None
    expected = {"abcd": 4, "efgh": 4, "": 1, "klmn": 4, "opqr": 4}  # the tokens of each
    assert real.reference.tokens is not None
    found = dict(zip(real.reference.texts, map(len, real.reference.tokens), strict=True))
    assert found == expected
    assert real_sequences(data, 6, "texts") is None
    halves = real_sequences(data, 2, "texts")
    assert halves is not None and halves.other is not None
    assert not set(halves.reference.texts) & set(halves.other.texts)


def test_texts_of_files(tmp_path, monkeypatch):
    texts = ["One.\n\nTwo.", "", "Three"]
    save_texts(texts, tmp_path / "many.txt")
    assert stored_texts(tmp_path / "many.txt").texts == texts
    (tmp_path / "rows.jsonl").write_text('{"text": "a\\nb"}\n{"text": ""}\n')
    assert stored_texts(tmp_path / "rows.jsonl").texts == ["a\nb", ""]
    assert stored_texts(tmp_path).texts == [*texts, "a\nb", ""]
    (tmp_path / "tables").mkdir()
    datasets.Dataset.from_dict({"text": ["a", "b"]}).to_parquet(tmp_path / "tables" / "a.parquet")
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "tables" / ".cache")
    assert stored_texts(tmp_path / "tables").texts == ["a", "b"]
    shutil.rmtree(tmp_path / "tables")
    assert stored_texts(tmp_path, count=2).texts == [texts[0], texts[2]]
    (tmp_path / "bad.jsonl").write_text('{"text": "a"}\n{"text": "b\\ud800"}\n')
    with pytest.raises(UserError, match=r"text 2 of .*bad.jsonl is not valid Unicode at character 1"):
        stored_texts(tmp_path / "bad.jsonl")
    (tmp_path / "bad.jsonl").unlink()
    for path in (Path("/dev/null"), Path("no\0file"), Path("a" * 5000)):
        with pytest.raises(UserError, match="does not exist: give a file or a folder"):
            stored_texts(path)
    with pytest.raises(UserError, match="holds 5 texts, fewer than --count 6"):
        stored_texts(tmp_path, count=6)


def test_scores_beside_real_texts():
    samples = TextSamples(["to be to be", "to be or not"], [torch.tensor([1, 1, 1]), torch.tensor([1, 2])])
    real = TextSamples(["A rose is a", "rose is a rose"], [torch.tensor([1, 2]), torch.tensor([3, 4])])
    scores, notes = text_scores(samples, real)
    values = {score.metric: (score.value, score.real) for score in scores}
    assert values["distinct_1"] == (4 / 8, 3 / 8)
    assert values["distinct_within_1"] == (3 / 4, 3 / 4)
    assert values["token_entropy"] == (pytest.approx(math.log(2) / 2), pytest.approx(math.log(2)))
    assert values["self_repetition"] == (0.0, 0.0)
    assert not notes and not {"generative_perplexity", "evaluator_entropy"} & set(values)
    assert all(score.better == "near real" and score.samples == 2 for score in scores)
    (one,), _ = text_scores(samples, None, ["distinct_2"])
    assert one.value == 4 / 6 and one.real is None


def test_what_cannot_be_computed_is_a_note_or_an_error():
    short = TextSamples(["a", "b c"])
    scores, notes = text_scores(short, None)
    assert {score.metric for score in scores} == {
        *("word_entropy", "distinct_1", "distinct_2", "distinct_within_1", "distinct_within_2")
    }
    assert notes == [
        "no distinct_3: no text has 3 words",
        "no distinct_within_3: no text has 3 words",
        "no self_repetition: no text has 4 words",
    ]
    with pytest.raises(UserError, match="self_repetition of texts cannot be computed: it needs 2 texts"):
        text_scores(TextSamples(["a b c d e"]), None, ["self_repetition"])
    for name, metric in TEXT_METRICS.items():
        if metric.needs is not None:
            with pytest.raises(UserError, match=f"{name} of texts cannot be computed: it needs"):
                text_scores(short, None, [name])
    with pytest.raises(UserError, match="files hold no texts"):
        TextSamples([], name="files hold no texts: it")


def test_a_single_text_has_no_distances():
    one, two = TextSamples(["to be or not to be"]), TextSamples(["a rose is a rose"])
    report = compare_texts(one, RealTexts(two, None), TextComparison())
    assert "no distances of sentence features: they need 2 texts, not 1" in report.notes
    report = compare_texts(one, None, TextComparison())
    assert any("fewer real texts than samples" in note for note in report.notes)
    for comparison in (TextComparison(("minilm",)), TextComparison(metrics=("frechet_distance",))):
        with pytest.raises(UserError, match="they need 2 texts, not 1"):
            compare_texts(one, RealTexts(two, None), comparison)
    with pytest.raises(UserError, match="unknown metric 'frechet'; did you mean frechet_distance"):
        compare_texts(one, None, TextComparison(metrics=("frechet",)))
    with pytest.raises(UserError, match="no metric is named"):
        compare_texts(one, None, TextComparison(metrics=()))
    with pytest.raises(UserError, match="no features are named"):
        compare_texts(one, None, TextComparison(features=()))


class Lengths:
    """Features of texts that can be computed by hand."""

    info = minilm.FeatureInfo("lengths", "1", None, "none", "float32", "none needed")
    classes = ()

    def __call__(self, samples):
        return minilm.Features(torch.tensor([[float(len(text)), float(text.count("a"))] for text in samples]))


def test_texts_go_through_the_common_evaluation():
    a, b = ["a", "aba", "bb", "abab", "c"], ["aaa", "b", "ab", "bbbb", "aab"]
    report = evaluate_samples(TextSamples(a), TextSamples(b), [Lengths()], ["frechet_distance"], batch=2)
    features = [Lengths()(texts).values for texts in (a, b)]
    assert report.score("frechet_distance").value == pytest.approx(frechet(*features), rel=1e-6)
    assert report.samples["count"] == 5 and report.samples["words"] == 5


def test_sentence_features_see_other_texts():
    """Other English sentences are nearer than the same sentences spelled backwards."""
    pytest.importorskip("transformers")
    pytest.importorskip(minilm.MODULE)
    things = ["king", "ship", "rose", "sword", "winter", "crown", "night", "daughter"]
    first = [f"My lord, the {thing} is gone from the house of York." for thing in things]
    second = [f"The {thing} of the duke is gone, my lady." for thing in things]
    third = [f"O, speak to me of the {thing} in this house, good sir." for thing in things]
    backwards = [text[::-1] for text in first]
    comparison = TextComparison(metrics=("frechet_distance", "kernel_distance", "distinct_1"))
    real = RealTexts(TextSamples(second), TextSamples(third))
    near, far = (compare_texts(TextSamples(texts), real, comparison) for texts in (first, backwards))
    for metric in ("frechet_distance", "kernel_distance"):
        assert near.score(metric).real == far.score(metric).real
        assert near.score(metric).value < 0.5 * far.score(metric).value
    assert near.features["minilm"]["licence"] == "Apache-2.0"
    assert [score.metric for score in near.scores] == ["distinct_1", "frechet_distance", "kernel_distance"]


def report_of(*values, notes=()):
    scores = tuple(Score(metric, value, real=9.0) for metric, value in values)
    return Report(scores, settings={"block": 4}, samples={"count": 2}, notes=notes)


def test_scores_over_temperatures(tmp_path):
    low = report_of(("token_entropy", 1.0), ("distinct_2", 0.5))
    high = report_of(("token_entropy", 2.0), ("distinct_2", 0.75), ("distinct_3", 1.0), notes=("a note",))
    report = temperature_series((0.5, 1.0), (low, high))
    assert [(each.metric, each.values, each.real) for each in report.series] == [
        ("token_entropy", (1.0, 2.0), (9.0, 9.0)),
        ("distinct_2", (0.5, 0.75), (9.0, 9.0)),
    ]
    assert all(each.axis == "temperature" and each.positions == (0.5, 1.0) for each in report.series)
    assert not report.scores and report.notes == ("temperature 1: a note",)
    table = text_table([report])
    assert "2 generated texts, blocks of 4" in table and "0.75" in table and "a note" in table
    pytest.importorskip("matplotlib")
    plot_temperatures([report], tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(UserError, match="there is nothing to plot"):
        plot_temperatures([temperature_series((0.5,), (report_of(("distinct_2", 1.0)),))], tmp_path / "b.png")
    assert not (tmp_path / "b.png").exists()
