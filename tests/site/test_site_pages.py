"""The documentation without building it: every page is in the navigation, every link leads somewhere, every
public name is in the API reference."""

import inspect
import re
from importlib import import_module

import pytest
import yaml

import acdit
from acdit.utils.references import load_object
from tests.site.pages import PAGES, ROOT, anchors, documented, links

API = [ROOT / "docs" / "api" / f"{name}.md" for name in ("pipelines", "networks", "diffusion", "training")]
API += [ROOT / "docs" / "api" / f"{name}.md" for name in ("evaluation", "extending")]
NAMES = [name for page in API for name in documented(page.read_text())]
SNIPPETS = "\n".join(re.findall(r"```python\n(.*?)```", "\n".join(p.read_text() for p in PAGES), re.DOTALL))


def resolved(name: str) -> object:
    """The object that an import path means: a module, or what stands in one."""
    try:
        return import_module(name)
    except ModuleNotFoundError:
        return load_object(":".join(name.rsplit(".", 1)))


def test_every_page_is_in_the_navigation():
    config = yaml.safe_load((ROOT / "mkdocs.yml").read_text())
    listed = set(re.findall(r"[\w./-]+\.md", str(config["nav"])))
    pages = {page.relative_to(ROOT / "docs").as_posix() for page in PAGES if "docs" in page.parts}
    assert len(pages) > 20 and pages - listed == set()
    cards = {f"models/{card.parent.name}.md" for card in ROOT.glob("acdit/pretrained/*/README.md")}
    others = {"index.md", "changelog.md", "contributing.md", "examples.md", "notice.md", "citation.md"}
    assert listed - pages == cards | others  # those that docs/site/hooks.py adds


def test_links_lead_to_files_and_anchors():
    found = [(page, target, anchor) for page in PAGES for target, anchor in links(page)]
    assert len(found) > 100
    assert [(page.name, target.name) for page, target, _ in found if not target.exists()] == []
    anchored = [(page, target, anchor) for page, target, anchor in found if anchor]
    assert len(anchored) > 20
    assert [
        (page.name, target.name, anchor)
        for page, target, anchor in anchored
        if anchor not in anchors(target)
        and not any(anchor.startswith(f"{name}.") for name in anchors(target))
    ] == []


def test_every_public_name_is_documented():
    assert [name for name in acdit.__all__ if f"acdit.{name}" not in NAMES] == []
    index = (ROOT / "docs" / "api" / "index.md").read_text()
    assert [name for name in acdit.__all__ if f"[`{name}`](" not in index] == []
    assert len(NAMES) == len(set(NAMES))


@pytest.mark.parametrize("name", NAMES)
def test_what_the_reference_names_exists_and_has_docstrings(name):
    """The named object, and for a class or a module its public members that the reference shows."""
    thing = resolved(name)
    assert (inspect.getdoc(thing) or "").strip()
    home = thing.__name__ if inspect.ismodule(thing) else getattr(thing, "__module__", "")
    members = vars(thing) if inspect.ismodule(thing) or inspect.isclass(thing) else {}
    shown = {
        key: value
        for key, value in members.items()
        if not key.startswith("_")
        and (inspect.isfunction(value) or inspect.isclass(value) or isinstance(value, property))
        and getattr(value, "__module__", home) == home
    }
    assert [key for key, value in shown.items() if not (inspect.getdoc(value) or "").strip()] == []


def test_what_snippets_import_is_documented():
    imported = [
        f"{module}.{name.split(' as ')[0].strip()}"
        for module, names in re.findall(r"^from (acdit[\w.]*) import ([^(\n]+)$", SNIPPETS, re.MULTILINE)
        for name in names.split(",")
    ]
    assert len(imported) > 12
    public = {id(resolved(f"acdit.{name}")) for name in acdit.__all__}
    assert [
        name
        for name in imported
        if name not in NAMES and name.rpartition(".")[0] not in NAMES and id(resolved(name)) not in public
    ] == []
