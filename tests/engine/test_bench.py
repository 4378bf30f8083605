"""`python -m engine.bench`: what it measures is what it says. Nothing here judges a time."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from engine.bench.__main__ import main
from engine.bench.measure import Plan, prompt_of, run
from engine.bench.table import PAGE, SUMMARIES, render, rewrite
from engine.bench.writers import ForcedShare, alone, generate, router_of, ways
from engine.errors import EngineError
from engine.events import Role
from engine.events.progress import print_progress
from engine.provenance import hardware
from engine.request import build_request
from engine.settings import load_settings

TOKENS, ROUNDS = 10, 2


@pytest.fixture(scope="module")
def summary():
    return json.loads(json.dumps(run(load_settings(preset="tiny"), Plan(40, TOKENS, ROUNDS, (20, 30)), print_progress)))


@pytest.fixture
def prompt(tiny_pair):
    return prompt_of(tiny_pair.tokenizer, 40)


def test_every_way_is_measured(summary, tiny_pair):
    rows = {row["name"]: row for row in summary["rows"]}
    assert list(rows) == [way.name for way in ways(tiny_pair, load_settings(preset="tiny"))]
    assert {"engine-slm", "routed-20", "engine-llm", "generate-llm", "assisted"} <= set(rows)
    for row in summary["rows"]:
        for found in row["tokens_per_second"], row["ratio"]:
            assert len(found["rounds"]) == ROUNDS and 0 < found["min"] <= found["median"] <= found["max"]
    assert rows["generate-llm"]["ratio"]["rounds"] == pytest.approx([1.0] * ROUNDS)
    assert set(rows["engine-slm"]["first_token_seconds"]) == {"20", "30"}
    assert summary["machine"]["threads"] == torch.get_num_threads() and summary["revision"]


def test_a_text_longer_than_the_models_take_is_refused(capsys):
    assert main(["--preset", "tiny", "--tokens", "3000"]) == 2
    assert "2,048" in capsys.readouterr().err


def test_every_way_writes_what_it_should(tiny_pair, random_pair, prompt):
    for role, model in ((Role.SLM, random_pair.slm), (Role.LLM, random_pair.llm)):
        start: Any = prompt_of(random_pair.tokenizer, 30)
        ours, theirs = alone(random_pair, role)(start, 60), generate(model.model, start, 60)
        end = next((n for n, token in enumerate(theirs) if token >= model.vocabulary), 60)
        assert ours[:end] == theirs[:end], "`generate` may write padding of the vocabulary"
    llm = alone(tiny_pair, Role.LLM)(prompt, 100)
    assert len(llm) == 100 and tiny_pair.end_id in llm, "no end token ends a text"
    for way in ways(tiny_pair, load_settings(preset="tiny")):
        if way.name.startswith(("verified-", "assisted")):
            assert way.write(prompt, 40) == llm[:40], way.name


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5])
def test_the_llm_writes_the_share_that_a_row_names(tiny_pair, prompt, share):
    request = build_request("-", threshold=share, max_new_tokens=20)
    (row,) = (decoding := tiny_pair.start([request], [ForcedShare(router_of(tiny_pair), 20)], [prompt])).texts
    decoding.finish()
    assert sum(event.role is Role.LLM for event in row.events) == 20 * share


def test_only_what_stands_between_the_markers_is_rewritten_and_without_them_nothing(summary, tmp_path):
    page, folder = tmp_path / "speed.md", tmp_path / "benchmarks"
    folder.mkdir()
    (folder / "tiny.json").write_text(json.dumps(summary), encoding="utf-8")
    page.write_text("before\n<!-- benchmark -->\nold\n", encoding="utf-8")
    with pytest.raises(EngineError, match="benchmark -->"):
        rewrite(folder, page)
    assert "old" in page.read_text(encoding="utf-8")
    page.write_text("before\n<!-- benchmark -->\nold\n<!-- /benchmark -->\nafter\n", encoding="utf-8")
    rewrite(folder, page)
    table = render(summary)
    assert page.read_text(encoding="utf-8") == f"before\n<!-- benchmark -->\n{table}\n<!-- /benchmark -->\nafter\n"
    assert all(f"| {row['title']} |" in table for row in summary["rows"]) and hardware(summary["machine"]) in table


def test_the_projects_speed_page_is_what_its_summaries_say(tmp_path):
    copy = Path(shutil.copy(PAGE, tmp_path))
    rewrite(SUMMARIES, copy)
    assert copy.read_text(encoding="utf-8") == PAGE.read_text(encoding="utf-8")
