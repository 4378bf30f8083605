"""The benchmark of many texts, HTTP and a served LLM writes its tables where they belong."""

from __future__ import annotations

import argparse

from tools import serving_benchmark
from tools.serving_benchmark import Newcomer, Written


def test_ratios_are_of_the_same_round_and_stand_in_the_section(tmp_path):
    asked = argparse.Namespace(prompt=100, tokens=60, rounds=2, texts=8)
    found = {
        "one text": [Written(10.0, 1.0, 0.2), Written(20.0, 3.0, 0.2)],
        "8 at once": [Written(30.0, 2.0, 0.2), Written(20.0, 2.0, 0.2)],
    }
    new = {100: [Newcomer(1.5, 0.1, 0.15), Newcomer(2.5, 0.1, 0.15)]}
    text = serving_benchmark._table(asked, found, new)
    assert "| one text | 15.0 (10.0 to 20.0) tokens/s |  | 2.00 s |" in text
    assert "| 8 at once | 25.0 (20.0 to 30.0) tokens/s | 2.00 (1.00 to 3.00) | 2.00 s |" in text
    assert "| 100 tokens | 2.00 s | 100 ms | 1.5 |" in text and "20% of the tokens by the LLM" in text
    page = tmp_path / "speed.md"
    page.write_text("before\n<!-- serving -->\nold\n<!-- /serving -->\nafter\n")
    serving_benchmark.write(text, page)
    assert page.read_text().startswith("before\n<!-- serving -->\nPrompts of 100") and "old" not in page.read_text()
    assert serving_benchmark.PAGE.read_text("utf-8").count("<!-- serving -->") == 1
