"""The rehearsal of a free Space: which interpreter it takes, what the page is given, and the table that comes of it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from engine.benchmark.markdown import filled
from engine.provenance import ROOT
from tools import space_rehearsal
from tools.space_rehearsal import AVX2, choose_python, environment, report


def test_an_interpreter_that_cannot_be_run_is_passed_over(monkeypatch, tmp_path):
    monkeypatch.setattr(space_rehearsal, "as_user", list)
    closed = tmp_path / "python"
    closed.write_text("#!/bin/sh\nexit 1\n")
    closed.chmod(0o755)
    assert choose_python(["no-such-python", str(closed), sys.executable]) == sys.executable
    with pytest.raises(SystemExit, match="name another with --python"):
        choose_python([str(closed)])


def test_the_page_is_given_a_spaces_variables_and_none_of_ours(monkeypatch, tmp_path):
    monkeypatch.setenv("CITER_PRESET", "tiny")
    given = environment(tmp_path)
    assert given.items() >= AVX2.items() and given["SPACE_ID"] and given["HOME"] == str(tmp_path / "home")
    assert not [name for name in given if name.startswith("CITER_")]


def test_the_table_stands_in_the_docs_and_names_no_path(tmp_path):
    run = {"page": 3.21, "first": 200.0, "text": 4.0, "peak": 5.5e9, "rest": 2.9e9, "limited": True}
    text = report("/usr/bin/python3.13", 321.4, [run, {**run, "first": 9.87}])
    assert "| first start, weights to be converted | 3.2 s | 200.0 s | 4.0 s | 5.5 GB | 2.9 GB |" in text
    assert "| second start | 3.2 s | 9.9 s |" in text and "a limit of 16 GB" in text
    assert "python3.13; installing took 321 s" in text and "/usr" not in text
    page = ROOT / "docs" / "deploy.md"
    assert text in filled(page.read_text("utf-8"), "rehearsal", text, Path("deploy.md"))
