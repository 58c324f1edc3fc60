import pytest
import torch

from acdit.data.tensor_cache import cached_tensors, fingerprint


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("ACDIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


class Builder:
    """Counts how often it is asked; each time it makes other values."""

    calls = 0

    def __call__(self) -> dict[str, torch.Tensor]:
        self.calls += 1
        return {"values": torch.arange(3.0) + self.calls, "count": torch.tensor(self.calls)}


def test_what_was_built_is_read_back(folder):
    build = Builder()
    first = cached_tensors("some", build)
    second = cached_tensors("some", build)
    assert build.calls == 1
    assert torch.equal(first["values"], torch.tensor([1.0, 2.0, 3.0]))
    assert torch.equal(second["values"], first["values"]) and torch.equal(second["count"], torch.tensor(1))
    assert [file.name for file in folder.iterdir()] == ["some.safetensors"]


@pytest.mark.parametrize("damage", ["cut", "flipped", "junk", "empty"])
def test_a_damaged_file_is_built_again(folder, damage):
    build = Builder()
    cached_tensors("some", build)
    file = folder / "some.safetensors"
    whole = file.read_bytes()
    flipped = whole[:-1] + bytes([whole[-1] ^ 1])
    file.write_bytes({"cut": whole[:-5], "flipped": flipped, "junk": b"junk" * 99, "empty": b""}[damage])
    assert cached_tensors("some", build)["count"] == 2
    assert cached_tensors("some", build)["count"] == 2  # and stored again


def test_a_folder_that_cannot_be_written_warns_and_goes_on(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("ACDIT_CACHE", str(tmp_path / "file"))
    with pytest.warns(UserWarning, match="ACDIT_CACHE"):
        assert cached_tensors("some", Builder())["count"] == 1


def test_a_fingerprint_depends_on_names_types_shapes_and_values():
    values = torch.arange(6)
    variants = [
        {"a": values},
        {"b": values},
        {"a": values.int()},
        {"a": values.view(2, 3)},
        {"a": values + 1},
        {"a": values, "b": values},
    ]
    assert len({fingerprint(variant) for variant in variants}) == len(variants)
    strided = torch.stack([values, values], dim=1)[:, 0]
    assert fingerprint({"a": strided}) == fingerprint({"a": values})  # whatever the order in memory
