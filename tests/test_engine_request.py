"""Bad requests are refused with a message that names the value and the way out, before any model is touched."""

from __future__ import annotations

import subprocess
import sys

import pytest

from engine import Dial, InvalidRequest, Request


@pytest.mark.parametrize("prompt", ["", "   ", "\n\t ", None, 5])
def test_an_empty_prompt_is_refused(prompt):
    with pytest.raises(InvalidRequest, match="prompt is empty"):
        Request(prompt)


@pytest.mark.parametrize("threshold", [float("nan"), float("inf"), -0.01, 2.1, "0.5", None, True])
def test_a_threshold_that_is_no_number_in_range_is_refused_by_request_and_dial(threshold):
    with pytest.raises(InvalidRequest, match=r"threshold = .*SLM-only"):
        Request("x", threshold=threshold)
    with pytest.raises(InvalidRequest, match="threshold"):
        Dial(0.5).threshold = threshold


@pytest.mark.parametrize(
    "bad",
    [
        {"policy": "best"},
        {"max_new_tokens": 0},
        {"max_new_tokens": 1.5},
        {"seed": -1},
        {"alternatives": -1},
        {"alternatives": 51},
        {"stop": ("",)},
    ],
)
def test_other_values_out_of_range_are_refused_by_name(bad):
    (name,) = bad
    with pytest.raises(InvalidRequest, match=name):
        Request("x", **bad)


def test_an_unknown_option_is_refused_with_the_known_ones(random_pair):
    with pytest.raises(InvalidRequest, match=r"treshold is not an option.*threshold"):
        random_pair.stream("x", treshold=0.5)


def test_the_public_names_do_not_import_torch():
    code = "import sys, engine; engine.Request('x'); engine.Trace; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
