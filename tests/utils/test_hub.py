"""Names on the hub where its address is unknown, as on a laptop without a network."""

import json
import shutil
import socket

import datasets
import datasets.config
import pytest
import torch

from acdit.data.autoencoders import load_autoencoder
from acdit.data.config import DataConfig
from acdit.data.rows import load_rows
from acdit.data.tokenizers import open_tokenizer
from acdit.evaluation.language_model import ExternalLanguageModel
from acdit.utils.errors import UserError
from acdit.utils.hub import hub_is_known

PROXIES = ("http_proxy", "https_proxy", "all_proxy")


@pytest.fixture
def lookups(monkeypatch):
    """The names whose addresses were asked for, none of which is known."""
    names = []

    def unknown(host, *_arguments, **_named):
        names.append(host)
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    return names


@pytest.mark.parametrize(
    "load",
    [
        lambda: load_autoencoder("acdit-tests/none"),
        lambda: open_tokenizer("acdit-tests/none"),
        lambda: ExternalLanguageModel("acdit-tests/none", torch.device("cpu")),
        lambda: load_rows(DataConfig("acdit-tests/none")),
    ],
    ids=["autoencoder", "tokenizer", "language model", "data set"],
)
def test_a_name_is_refused_without_asking_again_and_again(load, lookups, capfd):
    with pytest.raises(UserError, match=r"acdit-tests/none cannot be loaded: .*hub cannot be reached"):
        load()
    assert len(lookups) < 6 and "Retrying" not in capfd.readouterr().err


def test_a_data_set_in_the_cache_is_loaded(lookups, tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    (tmp_path / "rows.jsonl").write_text('{"text": "one"}\n{"text": "two"}\n')
    datasets.load_dataset("json", data_files=str(tmp_path / "rows.jsonl"), split="train")
    (made,) = (tmp_path / "cache" / "json").glob("*/*/*/json-train.arrow")
    folder = tmp_path / "cache" / "acdit-tests___kept" / "default" / "0.0.0" / ("0" * 40)
    folder.mkdir(parents=True)
    shutil.copy(made, folder / "kept-train.arrow")
    info = json.loads((made.parent / "dataset_info.json").read_text())
    info |= {"builder_name": "json", "dataset_name": "kept", "config_name": "default"}
    (folder / "dataset_info.json").write_text(json.dumps(info))
    assert load_rows(DataConfig("acdit-tests/kept"))["text"][:] == ["one", "two"]
    assert not datasets.config.HF_HUB_OFFLINE and len(lookups) < 6


def test_a_proxy_may_know_the_hub(lookups, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "localhost")  # says where there is none
    assert not hub_is_known()
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    assert hub_is_known()
