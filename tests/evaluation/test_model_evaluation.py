"""evaluate_model: the likelihood of texts, and refusals; the drift is tested with clips."""

import pytest

from acdit.data.config import DataConfig
from acdit.data.texts import open_texts
from acdit.diffusion.masked_schedulers import FirstHittingScheduler
from acdit.evaluation.likelihood import Scoring, likelihood
from acdit.evaluation.model_evaluation import MODEL_METRICS, ModelSettings, evaluate_model
from acdit.generation.batches import Sampling
from acdit.model.layout import Layout
from acdit.pipelines.text import ACDiTTextPipeline
from acdit.utils.errors import UserError
from acdit.utils.references import load_object
from tests.cli.text_model import BYTES
from tests.pipelines.test_text import network as text_network


@pytest.fixture(scope="module")
def pipeline():
    scheduler = FirstHittingScheduler(mask_token=BYTES.mask)
    return ACDiTTextPipeline(text_network().float(), scheduler, grid=[32], block=[4])


@pytest.fixture(scope="module")
def texts(pipeline, tmp_path_factory):
    path = tmp_path_factory.mktemp("texts") / "own.txt"
    path.write_text("flour and water, stirred, then rested for an hour; " * 8)
    return open_texts(DataConfig(source=str(path)), pipeline.tokenizer, 32, held_out=False)


def test_the_likelihood_of_texts_by_block_size(pipeline, texts):
    settings = ModelSettings(Sampling(3, 5), count=6, draws=2, block=8)
    report = evaluate_model(pipeline, texts, ["likelihood"], settings)
    row = likelihood(pipeline, texts, Layout((32,), (8,)), Scoring(6, 5, 2, "times", 3))
    for name in ("nats_per_token", "perplexity", "bits_per_byte", "standard_error"):
        assert report.score(name).value == row[name]
    assert report.settings["block"] == 8 and report.samples["count"] == 6
    spread = evaluate_model(pipeline, texts, ["spread"], settings)
    assert {one.metric for one in spread.scores} == {"spread", "spread_of_all", "spread_low", "spread_high"}


def test_metrics_are_those_of_the_modality(pipeline, texts):
    with pytest.raises(UserError, match="unknown metric 'likelyhood' of models; did you mean likelihood"):
        evaluate_model(pipeline, texts, ["likelyhood"])
    with pytest.raises(UserError, match="drift is for models of video, not text"):
        evaluate_model(pipeline, texts, ["drift"])
    with pytest.raises(UserError, match="no metric is named"):
        evaluate_model(pipeline, texts, [])
    assert all(callable(load_object(metric.measure)) for metric in MODEL_METRICS.values())
