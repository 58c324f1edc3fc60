"""`make docs`: the site is built strictly, and takes nothing from elsewhere."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.site.pages import ROOT

pytestmark = pytest.mark.long
# Each of these must make the build fail, with these words in its output.
FAULTS = {
    "docs/sampling.md": ("\n[x](no-such-page.md)\n", "no-such-page.md"),
    "docs/video.md": ("\n[x](text.md#no-such-heading)\n", "no-such-heading"),
    "docs/stray.md": ("# Stray\n", "stray.md"),
    "README.md": ("\n[x](docs/no-such-file.md)\n", "no-such-file.md"),
    "docs/text.md": ("\n[x](api/diffusion.md#acdit.no_such_anchor)\n", "acdit.no_such_anchor"),
    "acdit/__init__.py": ('\n__all__ += ["undocumented"]\n', "on any page: undocumented"),
}


def build(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run what `make docs` runs, in a folder that holds the repository."""
    (line,) = re.findall(r"^docs: .*\n\t(.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    setting, python, *words = shlex.split(line)
    assert python == "$(PY)"
    name, value = setting.split("=")
    variables = os.environ | {name: value, "PYTHONPATH": str(folder)}
    command = [sys.executable, *words, *options]
    return subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "repository"
    ignored = shutil.ignore_patterns("__pycache__")
    for name in ("acdit", "docs", "examples"):
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "NOTICE", "CITATION.cff", "mkdocs.yml"):
        shutil.copy(ROOT / name, folder)
    return folder


class Fetched(HTMLParser):
    """Collects addresses that a browser fetches by itself when it shows a page."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if tag == "link" and values.get("rel") not in ("canonical", "prev", "next"):
            self.addresses.append(values.get("href", ""))
        self.addresses += [values[name] for name in ("src", "srcset", "poster") if name in values]


def test_the_site_is_whole_and_fetches_nothing_from_elsewhere(tmp_path):
    done = build(ROOT, "--site-dir", str(tmp_path / "site"))
    assert done.returncode == 0, done.stderr
    pages = list((tmp_path / "site").rglob("*.html"))
    assert len(pages) > 35
    addresses, count = [], 0
    for page in pages:
        text = page.read_text()
        assert 'class="arithmatex"' not in text, page  # every equation has become MathML
        equations = re.findall(r"<math.*?</math>", text, re.DOTALL)
        assert [equation for equation in equations if "\\" in equation] == [], page
        count += len(equations)
        parser = Fetched()
        parser.feed(text)
        addresses += [address for address in parser.addresses if re.match(r"(https?:)?//", address)]
    source = re.sub(
        r"```.*?```|`[^`\n]+`", "", (ROOT / "docs" / "mathematics.md").read_text(), flags=re.DOTALL
    )
    equations = re.findall(r"\$\$.*?\$\$|\$[^$\s](?:[^$\n]*[^$\s])?\$", source, re.DOTALL)
    assert addresses == [] and count == len(equations) > 20
    styles = "".join(path.read_text() for path in (tmp_path / "site").rglob("*.css"))
    assert re.findall(r"(?:@import|url\()\s*[\"']?(?:https?:)?//", styles) == []


def test_each_fault_fails_the_build(repository):
    for name, (text, _) in FAULTS.items():
        with open(repository / name, "a") as file:
            file.write(text)
    done = build(repository)
    assert done.returncode != 0
    assert [words for _, words in FAULTS.values() if words not in done.stderr] == []


def test_a_name_that_is_not_there_fails_the_build(repository):
    with open(repository / "docs" / "api" / "training.md", "a") as file:
        file.write("\n::: acdit.training.loop.no_such_function\n")
    done = build(repository)
    assert done.returncode != 0 and "no_such_function" in done.stderr
