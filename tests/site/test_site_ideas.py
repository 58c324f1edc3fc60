"""The idea and the mathematics: figures are those that the package draws, and equations name functions."""

import re
import runpy
import sys

from tests.site.pages import ROOT, prose

DOCS = ROOT / "docs"


def test_the_figures_are_drawn_by_the_script_as_they_are(tmp_path, monkeypatch):
    """The files are equal to the byte: they hold text, not outlines of a font."""
    monkeypatch.setattr(sys, "argv", ["make_figures.py", str(tmp_path)])
    runpy.run_path(str(DOCS / "make_figures.py"), run_name="__main__")
    drawn = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert len(drawn) == 3
    assert drawn == {path.name: path.read_text() for path in (DOCS / "figures").iterdir()}
    page = (DOCS / "idea.md").read_text()
    assert [name for name in drawn if f"(figures/{name})" not in page] == []


def test_every_equation_is_followed_by_what_computes_it():
    parts = re.split(
        r"^\$\$\n.*?\n\$\$\n", prose((DOCS / "mathematics.md").read_text()), flags=re.DOTALL | re.MULTILINE
    )
    assert len(parts) > 12
    after = [part.strip().split("\n\n")[0] for part in parts[1:]]
    assert [
        text for text in after if not re.match(r"Computed by \[`[\w.]+`\]\(api/[a-z]+\.md#acdit\.", text)
    ] == []
