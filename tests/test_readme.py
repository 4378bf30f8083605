"""README and docs are true: their code runs, their commands are understood, their files exist."""

from __future__ import annotations

import gzip
import lzma
import re
import shlex
from pathlib import Path

import pytest

from tests.support.paths import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCS = {path.name: path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs").glob("*.md"))}


def blocks(text, language):
    fences = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return [block for name, block in fences if name == language]


def between(text, name):
    return text.split(f"<!-- {name} -->\n")[1].split(f"<!-- /{name} -->")[0].strip()


def test_its_python_example_runs(tiny_pair, tmp_path, monkeypatch, capsys):
    import engine

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(engine, "load", lambda _: tiny_pair, raising=False)
    example = next(block for block in blocks(README, "python") if "from engine import" in block)
    exec(compile(example, "README.md", "exec"), {})
    assert "answer is" in capsys.readouterr().out
    assert (tmp_path / "trace.json").exists()


def test_its_table_of_settings_is_the_one_the_code_prints():
    from engine.settings import markdown_table

    assert between(DOCS["settings.md"], "settings") == markdown_table()


def test_its_trainer_commands_are_understood():
    from trainer.__main__ import parser

    lines = "".join(blocks(README + DOCS["training.md"], "sh")).replace("\\\n", " ").splitlines()
    commands = [shlex.split(line.partition("-m trainer ")[2], comments=True) for line in lines if "-m trainer " in line]
    used = {parser().parse_args(each).command for each in commands}
    assert used == {"run", "report", "label", "fit", "speculate", "evaluate", "transfer", "ship"}


def test_its_results_are_what_the_summaries_say():
    from trainer.report.report import check

    assert check(ROOT / "assets" / "results", ROOT / "docs" / "results.md", ROOT / "README.md")


def test_the_readme_is_read_in_one_go():
    assert len(README.splitlines()) <= 200


def test_every_file_that_is_linked_exists():
    named = {ROOT / name for name in re.findall(r"\(((?:docs|assets|engine|trainer|app)/[^)#\s]+)", README)}
    for text in DOCS.values():
        links = re.findall(r"\]\(([^)#\s]+)", text)
        named |= {ROOT / "docs" / link for link in links if "://" not in link}
    assert not sorted(str(path) for path in named if not path.exists())
    assert len(named) > 10


def test_the_tree_names_folders_that_exist_and_leaves_none_out():
    tree = next(block for block in blocks(README, "") if "app.py" in block)
    parent, named = "", set()
    for line in tree.splitlines():
        if not line.startswith(" "):
            parent = line.split()[0]
            named.add(parent)
        else:
            named |= {parent + word for word in line.split("   ")[0].split() or line.split() if word.endswith("/")}
            named |= {parent + word for word in line.split() if re.fullmatch(r"[a-z]+/", word)}
    missing = sorted(name for name in named if not (ROOT / name).exists())
    assert not missing
    packages = {
        f"{path.parent.relative_to(ROOT)}/"
        for kind in ("app", "engine", "trainer")
        for path in (ROOT / kind).rglob("__init__.py")
    }
    assert packages <= named


@pytest.mark.parametrize("word", ["make demo", "make test", "CITER_PRESET=tiny"])
def test_it_says_how_to_start(word):
    assert word in README


def test_its_header_is_what_a_space_needs():
    header = README.split("---")[1]
    for key in ("title", "sdk: gradio", "sdk_version", "app_file: app.py", "license: apache-2.0"):
        assert key in header


def test_no_machine_path_and_no_index_host_is_in_what_is_committed():
    import subprocess

    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    if not tracked:
        pytest.skip("not a git checkout")
    patterns = re.compile("/" + r"(?:work|root|home/\w+)/|" + "pypi" + r"\.org|files\.python" + "hosted")
    texts = {name: (ROOT / name) for name in tracked if not name.endswith((".safetensors", ".png", ".gif"))}

    def content(path: Path) -> str:
        unpacked = {".xz": lzma.decompress, ".gz": gzip.decompress}.get(path.suffix, bytes)
        return unpacked(path.read_bytes()).decode("utf-8")

    guilty = [name for name, path in texts.items() if path.exists() and patterns.search(content(path))]
    assert guilty == []
