"""Docstrings say what an object does, verb first; ruff checks their form, this file their openings."""

import ast
import re
from pathlib import Path

import acdit

PACKAGE = Path(acdit.__file__).parent
OPENINGS = ("What", "Whether", "How", "Of")


def docstrings() -> list[tuple[str, str]]:
    """Every docstring of the package, and the texts below fields, which are help texts, with their places."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            for part in getattr(node, "body", []) if not isinstance(node, ast.Lambda | ast.IfExp) else []:
                value = part.value if isinstance(part, ast.Expr) else None
                if isinstance(value, ast.Constant) and isinstance(value.value, str):
                    found.append((f"{path.relative_to(PACKAGE)}:{part.lineno}", value.value))
    return found


def test_no_docstring_opens_with_a_question_word():
    every = docstrings()
    assert len(every) > 500
    opening = re.compile(rf"\s*({'|'.join(OPENINGS)})\b")
    assert [f"{place} {text.split(chr(10))[0]}" for place, text in every if opening.match(text)] == []
