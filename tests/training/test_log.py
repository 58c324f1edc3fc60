"""Logs of runs: what is read of them, and what is refused."""

import json
from pathlib import Path

import pytest

from acdit.training.log import read_log
from acdit.training.loop import train
from acdit.utils.errors import UserError
from tests.training.small import small_recipe


def write(path: Path, *entries, end="\n") -> Path:
    path.write_text(
        "\n".join(entry if isinstance(entry, str) else json.dumps(entry) for entry in entries) + end
    )
    return path


def validation(step, loss):
    return {"step": step, "validation": {"loss": loss, "by_block": [loss, None], "by_timestep": []}}


def test_steps_and_validations(tmp_path):
    first, second = {"step": 10, "loss": 0.5, "skipped": 0}, {"step": 20, "loss": None, "seconds": 1.5}
    file = write(tmp_path / "log.jsonl", first, validation(10, 0.4), second)
    for path in (tmp_path, file):
        log = read_log(path)
        assert log.steps == [first, second]
        assert log.validations == [{"step": 10, "loss": 0.4, "by_block": [0.4, None], "by_timestep": []}]


def test_an_empty_log(tmp_path):
    log = read_log(write(tmp_path / "log.jsonl", end=""))
    assert log.steps == log.validations == []


def test_a_cut_off_last_line_is_left_out(tmp_path):
    whole = json.dumps({"step": 20, "loss": 0.25})
    for length in range(len(whole) + 1):
        log = read_log(write(tmp_path / "log.jsonl", {"step": 10, "loss": 0.5}, whole[:length], end=""))
        assert [entry["step"] for entry in log.steps] == ([10, 20] if length == len(whole) else [10])


def test_steps_done_again_after_a_resume_count_once_as_they_were_last(tmp_path):
    entries = [{"step": step, "loss": step} for step in (1, 2, 3, 4)]
    entries.insert(2, validation(2, 0.2))
    entries.append(validation(4, 0.4))
    again = [{"step": 3, "loss": 30}, {"step": 4, "loss": 40}]
    log = read_log(write(tmp_path / "log.jsonl", *entries, *again))
    assert [(entry["step"], entry["loss"]) for entry in log.steps] == [(1, 1), (2, 2), (3, 30), (4, 40)]
    assert [entry["step"] for entry in log.validations] == [2]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"step": 10, "lo', "delimiter|Unterminated"),
        ("[1]", "whole number"),
        ('{"loss": 1}', "whole number"),
        ('{"step": 1.5}', "whole number"),
        ('{"step": 1, "loss": "low"}', "\"loss\" must be a number, not 'low'"),
        ('{"step": 1, "validation": 3}', '"validation" must be an object, not 3'),
        ('{"step": 1, "validation": {"by_block": [{}]}}', '"by_block" must be a number'),
        ("\0\0\0", "line 2"),
    ],
)
def test_another_broken_line_is_named(tmp_path, line, said):
    file = write(tmp_path / "log.jsonl", {"step": 1}, line, {"step": 2})
    with pytest.raises(UserError, match=said) as caught:
        read_log(tmp_path)
    assert f"{file}, line 2," in str(caught.value)


def test_a_folder_without_a_log(tmp_path):
    with pytest.raises(UserError, match=r"log\.jsonl does not exist: give the directory"):
        read_log(tmp_path)
    with pytest.raises(UserError, match="none does not exist"):
        read_log(tmp_path / "none")


@pytest.mark.parametrize("content", ['{"time": "noon"}\n', '{"step": 3, "loss": 0.5}\n'])
def test_a_log_without_a_checkpoint_is_kept(content, tmp_path, capsys):
    """It may be that of another program, or of a run whose checkpoints were moved away."""
    (tmp_path / "log.jsonl").write_text(content)
    (tmp_path / "log.1.jsonl").write_text("an earlier one\n")
    assert train(small_recipe(tmp_path, training={"steps": 1})) is not None
    assert (tmp_path / "log.2.jsonl").read_text() == content
    assert (tmp_path / "log.1.jsonl").read_text() == "an earlier one\n"
    assert [entry["step"] for entry in read_log(tmp_path).steps] == [1]
    assert f"no checkpoint belongs to {tmp_path / 'log.jsonl'}, which is kept as log.2.jsonl" in (
        capsys.readouterr().err
    )
