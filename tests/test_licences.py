"""docs/licences.md has a row for every file that is shipped; NOTICE and the model cards say the same."""

import json
import re
import tomllib
from pathlib import Path

import pytest
from hatchling.builders.sdist import SdistBuilder
from hatchling.builders.wheel import WheelBuilder
from huggingface_hub import ModelCard
from packaging.licenses import canonicalize_license_expression

from acdit.pipelines.folders import shipped_models

ROOT = Path(__file__).parents[1]
PRETRAINED = ROOT / "acdit" / "pretrained"
PAGE = (ROOT / "docs" / "licences.md").read_text()
# The patterns of each row, and its licence.
ROWS = [
    (re.findall(r"`(.+?)`", files), licence)
    for files, licence in re.findall(r"^\| (`.*?) \| .*? \| (.*?) \|", PAGE, re.MULTILINE)
]
# Tasks of the hub that models of this package do.
TASKS = {"image-classification", "text-generation", "unconditional-image-generation", "video-to-video"}


def matches(path: str, pattern: str) -> bool:
    """Match as a shell does: `**` any number of folders, `*` within one."""
    parts = [re.escape(part).replace(r"\*", "[^/]*") for part in re.split(r"\*\*/?", pattern)]
    return re.fullmatch(".*".join(parts), path) is not None


def belongs(path: str, patterns: list[str]) -> bool:
    return any(matches(path, pattern) for pattern in patterns)


def shipped() -> list[str]:
    files = [
        *WheelBuilder(str(ROOT)).recurse_included_files(),
        *SdistBuilder(str(ROOT)).recurse_included_files(),
    ]
    always = ["pyproject.toml", "LICENSE", ".gitignore"]  # added to every sdist
    return sorted({file.distribution_path for file in files} | set(always))


def test_patterns():
    assert matches("acdit/cli/main.py", "acdit/**/*.py") and matches("acdit/a.py", "acdit/**/*.py")
    assert matches("README.md", "*.md") and not matches("docs/a.md", "*.md")
    assert not matches("acdit/cli/main.pyc", "acdit/**/*.py") and not matches("b/acdit/a.py", "acdit/**/*.py")


def test_every_shipped_file_has_one_row_and_every_row_a_file():
    files = shipped()
    assert "acdit/labels/imagenet.txt" in files and "tests/test_licences.py" in files
    counts = {path: sum(belongs(path, patterns) for patterns, _ in ROWS) for path in files}
    assert {path: count for path, count in counts.items() if count != 1} == {}
    assert [row for row, _ in ROWS if not any(belongs(path, row) for path in files)] == []


def test_notice_names_what_is_not_of_this_package():
    notice = (ROOT / "NOTICE").read_text()
    assert "acdit/labels/imagenet.txt" in notice
    for name in shipped_models():
        assert re.search(rf"(acdit/pretrained/|, | and ){name}\b", notice), name


def test_notice_has_the_whole_license_of_wordnet():
    """Which asks that its conditions, notice and disclaimer appear on all copies; NOTICE is in the wheel."""
    words = " ".join((ROOT / "NOTICE").read_text().split())
    assert "provided that you agree to comply with the following copyright notice and statements" in words
    assert "WordNet 3.0 Copyright 2006 by Princeton University. All rights reserved." in words
    assert 'THIS SOFTWARE AND DATABASE IS PROVIDED "AS IS" AND PRINCETON UNIVERSITY MAKES NO' in words
    assert "Title to copyright in this software, database and any associated documentation shall" in words
    assert words.endswith("Princeton University and LICENSEE agrees to preserve same.")


def test_the_metadata_name_the_licences_of_what_is_in_the_wheel():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = project["license"].split(" AND ")
    wheel = {file.distribution_path for file in WheelBuilder(str(ROOT)).recurse_included_files()}
    shown = {licence for patterns, licence in ROWS if any(belongs(path, patterns) for path in wheel)}
    assert set(named) == shown and len(named) == len(shown)
    assert canonicalize_license_expression(project["license"]) == project["license"]
    texts = "".join((ROOT / name).read_text() for name in project["license-files"])
    assert "Apache License" in texts and "https://creativecommons.org/licenses/by-sa/3.0/" in texts
    assert all(name in texts for name in named if name.startswith("LicenseRef-"))


@pytest.mark.parametrize("name", shipped_models())
def test_cards_of_models_fit_the_hub(name):
    """The front matter is read by huggingface_hub, which refuses YAML and results that are malformed."""
    card = ModelCard.load(PRETRAINED / name / "README.md")
    data = card.data.to_dict()
    (licence,) = [licence for patterns, licence in ROWS if f"acdit/pretrained/{name}/**" in patterns]
    assert data["license"] == licence.lower()
    assert data["library_name"] == "acdit" and data["pipeline_tag"] in TASKS
    assert data["tags"] and set(data["tags"]) >= {"acdit", "arxiv:2412.07720"}
    assert card.text.startswith("\n# ") or card.text.startswith("# ")
    index = json.loads((PRETRAINED / name / "model_index.json").read_text())
    assert index["_class_name"].startswith("ACDiT")
    assert ModelCard(str(card)).data.to_dict() == data
