"""Hooks of the documentation site: pages from files outside docs/, links to them, and equations as MathML."""

import html
import json
import os
import posixpath
import re
from pathlib import Path

from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

import acdit
from acdit.cli.main import COMMANDS, load_command

ROOT = Path(__file__).resolve().parents[2]
CARDS = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("acdit/pretrained/*/README.md"))
# Files of the repository outside docs/, and the pages that they become.
PAGES = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "examples/README.md": "examples.md",
    "NOTICE": "notice.md",
    "CITATION.cff": "citation.md",
} | {card: f"models/{Path(card).parent.name}.md" for card in CARDS}
MODELS = ("mnist", "moving-digits", "shakespeare", "mnist-classifier")  # one of each modality
SOURCES = {page: source for source, page in PAGES.items()}
LINK = re.compile(r"\[(?P<words>[^\]]*)\]\((?P<target>[^)\s#]+)(?P<anchor>#[^)\s]*)?\)")
FENCE = re.compile(r"(^```.*?^```$|`[^`\n]+`)", re.DOTALL | re.MULTILINE)
DOCUMENTED = re.compile(r"^::: acdit\.(\w+)$", re.MULTILINE)
EQUATION = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add the pages whose text stands outside docs/."""
    for source, page in PAGES.items():
        text = (ROOT / source).read_text()
        if source.endswith(".md"):
            text = re.sub(r"\A---\n.*?\n---\n", "", text, flags=re.DOTALL)  # metadata of model cards
        else:
            text = f"# {Path(page).stem.capitalize()}\n\n```text\n{text}```\n"
        files.append(File.generated(config, page, content=text))
    return files


def example_sources() -> str:
    """Return the example scripts, and the cells of the notebook, as sections of a page."""
    parts = []
    for script in sorted((ROOT / "examples").glob("*.py")):
        parts += [f"## {script.name} {{ #{script.stem} }}", f"```python\n{script.read_text()}```"]
    for notebook in sorted((ROOT / "examples").glob("*.ipynb")):
        parts.append(f"## {notebook.name} {{ #{notebook.stem} }}")
        for cell in json.loads(notebook.read_text())["cells"]:
            text = "".join(cell["source"])
            code = cell["cell_type"] == "code"
            parts.append(f"```python\n{text}\n```" if code else re.sub("^#+ .*", _bold, text, flags=re.M))
    return "\n\n".join(parts)


def _bold(heading: re.Match[str]) -> str:
    return f"**{heading[0].lstrip('# ')}**"


def help_of_commands() -> str:
    """Return the help of every command as sections of a page."""
    parts = []
    os.environ["COLUMNS"] = "100"  # not those of the terminal in which the site is built
    for name in COMMANDS:
        shown = MODELS if name in ("sample", "evaluate") else ("",)
        parts.append(f"## acdit {name}")
        for model in shown:
            parts += [f"### --model {model}"] if model else []
            text = load_command(name).help(["--model", model] if model else [])
            parts.append(f"```text\n{text.rstrip()}\n```")
    return "\n\n".join(parts)


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links between files into links between pages, and fill the page of the commands."""
    here = page.file.src_uri
    source = SOURCES.get(here, f"docs/{here}")
    if here == "api/commands.md":
        markdown += f"\n\n{help_of_commands()}\n"
    if source == "examples/README.md":
        markdown += f"\n\n{example_sources()}\n"
    parts = FENCE.split(markdown)
    parts[::2] = [LINK.sub(lambda match: _link(match, source, here), part) for part in parts[::2]]
    return "".join(parts)


def _link(match: re.Match[str], source: str, here: str) -> str:
    target = match["target"]
    if re.match(r"[a-z]+:", target):
        return match[0]
    path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
    if path == source:
        return match["words"]
    if source == "examples/README.md" and posixpath.dirname(path) == "examples":
        return f"[{match['words']}](#{posixpath.splitext(posixpath.basename(path))[0]})"
    if (ROOT / path).is_file() and path not in PAGES and not path.startswith("docs/"):
        return match["words"]  # a file that is no page
    page = PAGES.get(path, path.removeprefix("docs/"))
    if (ROOT / path).is_dir():  # the page of a study, or of all
        inside = f"{page}/{posixpath.basename(page)}.md"
        page = inside if (ROOT / "docs" / inside).exists() else f"{page}.md"
    link = posixpath.relpath(page, posixpath.dirname(here) or ".")
    return f"[{match['words']}]({link}{match['anchor'] or ''})"


def on_page_content(content: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn equations into MathML, which browsers show without a script."""
    return EQUATION.sub(_mathml, content)


def _mathml(match: re.Match[str]) -> str:
    display = "block" if match[1] == "div" else "inline"
    return f'<{match[1]} class="equation">{convert(html.unescape(match[2]), display=display)}</{match[1]}>'


def on_post_build(*, config: MkDocsConfig) -> None:
    """Check that the pages document every public name, after the warnings about the pages were given.

    Raises:
        PluginError: if a name of `acdit.__all__` is on no page.
    """
    pages = [path.read_text() for path in Path(config.docs_dir).rglob("*.md")]
    names = {name for page in pages for name in DOCUMENTED.findall(page)}
    undocumented = [name for name in acdit.__all__ if name not in names]
    if undocumented:
        raise PluginError(f"public names without `::: acdit.NAME` on any page: {', '.join(undocumented)}")
