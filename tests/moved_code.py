"""Compares the functions and classes of two revisions of the package, wherever they stand, imports aside.

python tests/moved_code.py OLD [NEW]

A commit that only moves code between files leaves every syntax tree as it was: then this prints how many
functions and classes were compared, and exits with 0. NEW is the working tree when left out.
"""

import ast
import io
import subprocess
import sys
import tarfile
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


class WithoutImports(ast.NodeTransformer):
    """Removes import statements, and leaves `pass` where a body would be empty."""

    def visit_Import(self, node: ast.Import) -> None:
        return None

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        return None

    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        if getattr(node, "body", None) == []:
            node.body = [ast.Pass()]  # pyright: ignore[reportAttributeAccessIssue]
        return node


def sources(revision: str | None) -> list[str]:
    """Return the text of every module of the package, of a revision or of the working tree."""
    if revision is None:
        return [path.read_text() for path in sorted((ROOT / "acdit").rglob("*.py"))]
    command = ["git", "archive", revision, "acdit"]
    packed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout
    found = []
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        for member in archive:
            if member.name.endswith(".py"):
                opened = archive.extractfile(member)
                assert opened is not None
                found.append(opened.read().decode())
    return found


def definitions(texts: list[str]) -> Counter[tuple[str, str]]:
    """Count the functions and classes at the top of modules, each by name and syntax tree."""
    found: Counter[tuple[str, str]] = Counter()
    for text in texts:
        for node in ast.parse(text).body:
            if isinstance(node, Definition):
                found[node.name, ast.dump(WithoutImports().visit(node))] += 1
    return found


def main() -> int:
    if not 2 <= len(sys.argv) <= 3:
        print(__doc__)
        return 2
    old, new = (definitions(sources(revision)) for revision in (sys.argv[1], (sys.argv[2:] or [None])[0]))
    for name, _ in sorted((old - new).elements()):
        print(f"changed or gone: {name}")
    for name, _ in sorted((new - old).elements()):
        print(f"changed or new: {name}")
    same = sum((old & new).values())
    print(f"{same} functions and classes are the same, {sum((old - new).values())} are not")
    return int(old != new)


if __name__ == "__main__":
    sys.exit(main())
