"""`docs/architecture.md` is true: its files exist, its functions are in them, and its walks are short."""

from __future__ import annotations

import ast
import re

import pytest

from tests.support.paths import ROOT

TEXT = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")


def steps(title):
    """(file, names) of the rows of the table below a heading."""
    section = TEXT.split(f"## {title}\n")[1].split("\n## ")[0]
    rows = [line.split("|")[1:-1] for line in section.splitlines() if line.startswith("| ") and "`" in line]
    cells = [[re.findall(r"`([^`]+)`", cell) for cell in row] for row in rows]
    return [(row[1][0], row[2]) for row in cells]


def names_in(file):
    """What a file defines: functions, classes, and methods as Class.method."""
    text = (ROOT / file).read_text(encoding="utf-8")
    if file.endswith(".js"):
        return set(re.findall(r"(?:function|const|let|class)\s+(\w+)", text))
    if not file.endswith(".py"):
        return set(re.findall(r"[\w.-]+", text))
    names = set()
    for node in ast.parse(text).body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            names.add(node.name)
        elif isinstance(node, ast.ClassDef):
            names |= {node.name} | {f"{node.name}.{getattr(item, 'name', None)}" for item in node.body}
    return names


WALKS = {
    "One token, from the prompt to the browser": 12,
    "The threshold, from the slider to a token's colour": 10,
    "What the LLM takes back, from its pass to the window": 6,
}


@pytest.mark.parametrize("title, most", WALKS.items())
def test_a_walk_goes_through_few_files_in_which_its_functions_are(title, most):
    walk = steps(title)
    assert len(walk) >= 6 and len({file for file, _ in walk}) <= most
    for file, names in walk:
        assert names and not set(names) - names_in(file), (file, set(names) - names_in(file))


def test_no_folder_is_crowded():
    for top in ("engine", "trainer", "app", "assets/page"):
        for folder in [ROOT / top, *(path for path in (ROOT / top).rglob("*") if path.is_dir())]:
            files = [path.name for path in folder.iterdir() if path.suffix in (".py", ".js", ".css", ".html")]
            assert len(set(files) - {"__init__.py"}) <= 13, folder


def test_each_class_is_named_once():
    classes: dict[str, list[str]] = {}
    for top in ("engine", "trainer", "app"):
        for path in (ROOT / top).rglob("*.py"):
            for node in ast.parse(path.read_text(encoding="utf-8")).body:
                if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                    classes.setdefault(node.name, []).append(str(path.relative_to(ROOT)))
    assert not {name: files for name, files in classes.items() if len(files) > 1}
