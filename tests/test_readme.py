"""The README is true: its code runs, its files exist, its table of settings is the one the code prints."""

from __future__ import annotations

import re
import shlex

import pytest
from conftest import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language):
    fences = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
    return [text for name, text in fences if name == language]


def between(name):
    return README.split(f"<!-- {name} -->\n")[1].split(f"<!-- /{name} -->")[0].strip()


def test_its_python_example_runs(tiny_pair, tmp_path, monkeypatch, capsys):
    import engine

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(engine, "load", lambda _: tiny_pair, raising=False)
    example = next(block for block in blocks("python") if "from engine import" in block)
    exec(compile(example, "README.md", "exec"), {})
    assert "answer is" in capsys.readouterr().out
    assert (tmp_path / "trace.json").exists()


def test_its_table_of_settings_is_the_one_the_code_prints():
    from engine.settings import markdown_table

    assert between("settings") == markdown_table()


def test_its_trainer_commands_are_understood():
    from trainer.__main__ import parser

    lines = "".join(blocks("sh")).replace("\\\n", " ").splitlines()
    commands = [shlex.split(line.partition("-m trainer ")[2], comments=True) for line in lines if "-m trainer " in line]
    assert {parser().parse_args(each).command for each in commands} == {"run", "report", "fit", "evaluate", "ship"}


def test_its_results_are_what_the_summaries_say():
    from trainer.report import check

    assert check(ROOT / "assets" / "results", ROOT / "README.md")


def test_every_file_it_names_exists():
    named = set(re.findall(r"\(((?:docs|assets|engine|trainer|app)/[^)\s]+)\)", README))
    tree = next(block for block in blocks("") if "app.py" in block)
    folder = ""
    for line in tree.splitlines():
        words = line.split("  ")[0].split() if not line.startswith(" ") else line.strip().split("   ")[0].split()
        for word in words:
            if word.endswith("/"):
                folder = word
                named.add(word)
            elif word.endswith(".py"):
                named.add((folder if line.startswith(" ") else "") + word)
    missing = sorted(name for name in named if not (ROOT / name).exists())
    assert not missing
    assert len(named) > 20


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
    texts = {name: (ROOT / name) for name in tracked if not name.endswith((".safetensors", ".png"))}
    guilty = [n for n, path in texts.items() if path.exists() and patterns.search(path.read_text("utf-8"))]
    assert guilty == []
