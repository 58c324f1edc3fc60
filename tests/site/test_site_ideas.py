"""The idea and the mathematics: figures are those that the package draws, and equations name functions."""

import re
import subprocess
import sys

from tests.site.pages import ROOT, prose

DOCS = ROOT / "docs"


def test_the_figures_are_drawn_by_the_script_as_they_are(tmp_path):
    """The files are equal to the byte: they hold text, not outlines of a font."""
    subprocess.run([sys.executable, DOCS / "make_figures.py", tmp_path], cwd=ROOT, check=True)
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
