"""README and docs are true: their code runs, their commands are understood, their files and settings exist."""

from __future__ import annotations

import ast
import io
import json
import lzma
import re
import shlex
import subprocess

import httpx
import pyarrow.parquet as pq
import pytest

from tests.support.paths import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCS = {path.name: path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs").glob("*.md"))}
TODAY = {"README.md": README, **{name: text for name, text in DOCS.items() if name != "experiments.md"}}
"""What speaks of the project as it is; the log of experiments names what there was."""


def blocks(text: str, language: str) -> list[str]:
    fences = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return [block for name, block in fences if name == language]


def commands(start: str) -> list[list[str]]:
    """The arguments of each command in the docs' shell blocks that begins so, after variables and a path."""
    whole = "".join(block for text in TODAY.values() for block in blocks(text, "sh")).replace("\\\n", " ")
    lines = re.findall(rf"^(?:\w+=\S+ +|[./\w]*/)*{start}\b(.*)$", whole, re.MULTILINE)
    return [shlex.split(line, comments=True) for line in lines]


def example(part: str) -> str:
    """The only example in Python that has this in it."""
    (found,) = (block for text in TODAY.values() for block in blocks(text, "python") if part in block)
    return found


def test_its_python_example_runs_as_it_stands(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    exec(compile(example("from engine import"), "README.md", "exec"), {})
    assert "42" in capsys.readouterr().out and (tmp_path / "trace.json").exists()


def test_the_client_and_the_calls_of_curl_are_answered_at_this_address_by_this_pair(served, capsys):
    moved = re.sub(r"http://127\.0\.0\.1:\d+/v1", served.url, example("openai")).replace('"cpu:', '"tiny:')
    exec(compile(moved, "README.md", "exec"), {})
    assert served.url in moved and capsys.readouterr().out.strip()
    called = [arguments for arguments in commands("curl") if "-d" in arguments]
    assert called
    for arguments in called:
        path = next(each for each in arguments if each.startswith("http")).partition("/v1")[2]
        body = json.loads(re.sub('"cpu\\b', '"tiny', arguments[arguments.index("-d") + 1]))
        answer = httpx.post(served.url + path, json=body, timeout=120)
        assert answer.status_code == 200 and answer.text


def test_its_commands_are_understood():
    from engine.__main__ import _parser as engine
    from engine.endpoint.serve import _parser as serve
    from engine.settings import load_settings
    from trainer.__main__ import parser as trainer

    texts, trained = commands("python -m engine"), commands("python -m trainer")
    assert len(texts) > 2 and len(trained) > 5
    for arguments in texts:
        served = arguments[:1] == ["serve"]
        (serve if served else engine)(load_settings()).parse_args(arguments[served:])
    for arguments in trained:
        trainer().parse_args(arguments)


def test_its_targets_are_made_here():
    made = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {word for text in TODAY.values() for word in re.findall(r"`(?:\w+=\w+ )*make ([\w-]+)", text)}
    named |= {arguments[0] for arguments in commands("make")}
    assert {"demo", "test"} <= named <= made


def test_its_settings_are_those_that_the_code_knows():
    from engine.settings import markdown_table

    table = markdown_table()
    assert DOCS["settings.md"].split("<!-- settings -->\n")[1].split("<!-- /settings -->")[0].strip() == table
    today = "".join(text for name, text in TODAY.items() if name != "results.md")  # which quotes older commands
    named = set(re.findall(r"CITER_[A-Z_]*[A-Z]", today))
    assert len(named) > 10 and named <= set(re.findall(r"CITER_[A-Z_]*[A-Z]", table))


def test_its_results_are_what_the_rows_say():
    from trainer.report.report import report

    where = ROOT / "assets" / "results", ROOT / "docs" / "results.md", ROOT / "README.md"
    assert report("cpu", *where, write=False) == []


def test_it_is_read_in_one_go_and_its_header_is_what_a_space_needs():
    assert len(README.splitlines()) <= 150
    header = README.split("---")[1]
    keys = "title", "sdk: gradio", "sdk_version", "app_file: app.py", "license: apache-2.0"
    assert all(key in header for key in keys)


def test_every_file_that_is_linked_exists():
    links = {
        (ROOT if name == "README.md" else ROOT / "docs") / link
        for name, text in {"README.md": README, **DOCS}.items()
        for link in re.findall(r"\]\(([^)#\s]+)", text)
        if "://" not in link
    }
    assert len(links) > 10 and not sorted(str(path) for path in links if not path.exists())


def test_architecture_names_folders_that_exist_and_leaves_none_out():
    named = set(re.findall(r"`((?:app|engine|trainer)/(?:[a-z]+/)*)`", DOCS["architecture.md"]))
    assert all((ROOT / name).exists() for name in named), named
    found = [path for kind in ("app", "engine", "trainer") for path in (ROOT / kind).rglob("__init__.py")]
    assert {f"{path.parent.relative_to(ROOT)}/" for path in found} <= named


def test_no_machine_path_and_no_index_host_is_in_what_is_committed():
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    if not tracked:
        pytest.skip("not a git checkout")
    patterns = re.compile("/" + r"(?:work|root|home/\w+)/|" + "pypi" + r"\.org|files\.python" + "hosted")
    rows = lambda content: str(pq.read_table(io.BytesIO(content)).to_pydict()).encode()  # noqa: E731
    unpack = {".xz": lzma.decompress, ".parquet": rows}
    files = [ROOT / name for name in tracked if not name.endswith((".safetensors", ".png", ".gif"))]
    texts = {path: unpack.get(path.suffix, bytes)(path.read_bytes()).decode() for path in files if path.exists()}
    assert not [str(path) for path, text in texts.items() if patterns.search(text)]


# ---- docs/architecture.md: its files exist, its functions are in them, and its walks are short ----


def steps(title):
    """(file, names) of the rows of the table below a heading."""
    section = DOCS["architecture.md"].split(f"## {title}\n")[1].split("\n## ")[0]
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
    "One token, from the command line": 12,
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
            assert len(set(files) - {"__init__.py"}) <= 14, folder
