"""README and docs are true: their code runs, their commands are understood, their files and settings exist."""

from __future__ import annotations

import gzip
import json
import lzma
import re
import shlex
import subprocess
from pathlib import Path

import httpx
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


def between(text: str, name: str) -> str:
    return text.split(f"<!-- {name} -->\n")[1].split(f"<!-- /{name} -->")[0].strip()


def test_its_python_example_runs_as_it_stands(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (example,) = (block for block in blocks(README, "python") if "from engine import" in block)
    exec(compile(example, "README.md", "exec"), {})
    assert "42" in capsys.readouterr().out and (tmp_path / "trace.json").exists()


def test_its_client_runs_as_it_stands_but_for_the_address_and_the_pair(served, capsys):
    (example,) = (block for block in blocks(README, "python") if "openai" in block)
    moved = re.sub(r"http://127\.0\.0\.1:\d+/v1", served.url, example).replace('"cpu:', '"tiny:')
    assert moved.count(served.url) == 1 and '"tiny:' in moved
    exec(compile(moved, "README.md", "exec"), {})
    assert capsys.readouterr().out.strip()


def test_its_calls_of_curl_are_answered(served):
    called = [arguments for arguments in commands("curl") if "-d" in arguments]
    assert called
    for arguments in called:
        path = next(each for each in arguments if each.startswith("http")).partition("/v1")[2]
        body = json.loads(arguments[arguments.index("-d") + 1])
        with httpx.stream("POST", served.url + path, json=body, timeout=120) as answer:
            assert answer.status_code == 200 and "".join(answer.iter_text())


def test_its_commands_are_understood():
    from engine.__main__ import _parser as engine
    from engine.endpoint.serve import _parser as serve
    from engine.settings import load_settings
    from trainer.__main__ import parser as trainer

    settings = load_settings()
    texts = commands("python -m engine")
    assert len(texts) > 2 and len(commands("python -m trainer")) > 5
    for arguments in texts:
        served = arguments[:1] == ["serve"]
        (serve if served else engine)(settings).parse_args(arguments[served:])
    for arguments in commands("python -m trainer"):
        trainer().parse_args(arguments)


def test_its_targets_are_made_here():
    made = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {word for text in TODAY.values() for word in re.findall(r"`(?:\w+=\w+ )*make ([\w-]+)", text)}
    named |= {arguments[0] for arguments in commands("make")}
    assert {"demo", "test"} <= named <= made


def test_its_settings_are_those_that_the_code_knows():
    from engine.settings import markdown_table

    table = markdown_table()
    assert between(DOCS["settings.md"], "settings") == table
    named = {name for text in TODAY.values() for name in re.findall(r"CITER_[A-Z_]*[A-Z]", text)}
    assert len(named) > 10 and named <= set(re.findall(r"CITER_[A-Z_]*[A-Z]", table))


def test_its_results_are_what_the_summaries_say():
    from trainer.report.report import check

    assert check(ROOT / "assets" / "results", ROOT / "docs" / "results.md", ROOT / "README.md")


def test_the_readme_is_read_in_one_go():
    assert len(README.splitlines()) <= 200


def test_every_file_that_is_linked_exists():
    links = {"README.md": ROOT, **dict.fromkeys(DOCS, ROOT / "docs")}
    named = {
        folder / link
        for name, folder in links.items()
        for link in re.findall(r"\]\(([^)#\s]+)", README if name == "README.md" else DOCS[name])
        if "://" not in link
    }
    assert len(named) > 10 and not sorted(str(path) for path in named if not path.exists())


def test_the_tree_names_folders_that_exist_and_leaves_none_out():
    tree = next(block for block in blocks(README, "") if "app.py" in block)
    parent, named = "", set()
    for line in tree.splitlines():
        if not line.startswith(" "):
            parent = line.split()[0]
            named.add(parent)
        else:
            named |= {parent + word for word in line.split() if re.fullmatch(r"(?:[a-z]+/)+", word)}
    assert not sorted(name for name in named if not (ROOT / name).exists())
    packages = {
        f"{path.parent.relative_to(ROOT)}/"
        for kind in ("app", "engine", "trainer")
        for path in (ROOT / kind).rglob("__init__.py")
    }
    assert packages <= named


def test_its_header_is_what_a_space_needs():
    header = README.split("---")[1]
    for key in ("title", "sdk: gradio", "sdk_version", "app_file: app.py", "license: apache-2.0"):
        assert key in header
    (app_file,) = re.findall(r"app_file: (\S+)", header)
    assert (ROOT / app_file).is_file()


def test_no_machine_path_and_no_index_host_is_in_what_is_committed():
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    if not tracked:
        pytest.skip("not a git checkout")
    patterns = re.compile("/" + r"(?:work|root|home/\w+)/|" + "pypi" + r"\.org|files\.python" + "hosted")
    texts = {name: (ROOT / name) for name in tracked if not name.endswith((".safetensors", ".png", ".gif"))}

    def content(path: Path) -> str:
        unpacked = {".xz": lzma.decompress, ".gz": gzip.decompress}.get(path.suffix, bytes)
        return unpacked(path.read_bytes()).decode("utf-8")

    assert not [name for name, path in texts.items() if path.exists() and patterns.search(content(path))]
