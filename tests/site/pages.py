"""The pages of the documentation as the tests read them: links, anchors, and what the API reference names."""

import posixpath
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [
        *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "examples/README.md")),
        *ROOT.glob("acdit/pretrained/*/README.md"),
        *ROOT.glob("docs/**/*.md"),
    ]
)
FENCE = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)


def prose(text: str) -> str:
    """A page without its fenced blocks."""
    return FENCE.sub("", text)


def links(path: Path) -> list[tuple[Path, str]]:
    """Links of a page to files of the repository, each with the anchor, or an empty string."""
    text = re.sub(r"`[^`\n]+`", "", prose(path.read_text()))
    found = [match for match in re.findall(r"\]\(([^)\s]+)\)", text) if not re.match("[a-z]+:", match)]
    parts = [link.partition("#") for link in found]
    base = path.parent.as_posix()
    return [
        (Path(posixpath.normpath(posixpath.join(base, file))) if file else path, anchor)
        for file, _, anchor in parts
    ]


def anchors(path: Path) -> set[str]:
    """Anchors of a page: its headings and marks, and the objects that it documents."""
    text = path.read_text()
    headings = re.findall(r"^#+ (.*)$", prose(text), re.MULTILINE)
    slugs = {re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", each).strip().lower()) for each in headings}
    marks = re.findall(r"<a (?:id|name)=\"([^\"]+)\"", text)
    return slugs | {*marks, *documented(text)}


def documented(text: str) -> list[str]:
    """Import paths of what a page of the API reference documents."""
    return re.findall(r"^::: (\S+)$", text, re.MULTILINE)
