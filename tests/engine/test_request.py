"""What a request is made of, and what only callers in Python give; the other limits are in `tests.support.limits`."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from engine import Forced, InvalidRequest, Request, Role, Sampling, Setting, build_request
from engine.request import MAX_FORCED, Turn


def test_who_wrote_what_of_a_message_fits_its_text():
    wrong = [[(Role.SLM, 3)], ((Role.SLM, 1),) * 4, (("slm", 3),), (Role.SLM,), ((Role.SLM, 0), (Role.LLM, 3))]
    for authors in [*wrong, ((Role.SLM, 1), (Role.LLM, 1))]:
        with pytest.raises(InvalidRequest, match="author"):
            Turn("assistant", "abc", authors)
    assert Turn("assistant", "abc", ((Role.SLM, 1), (Role.LLM, 2))).text == "abc"


def test_forced_tokens_have_a_limit_and_roles_for_authors_and_a_raw_text_has_no_turns():
    role: Any
    for role in ("llm", "user", None):
        with pytest.raises(InvalidRequest, match=f"{role!r}: give Role.SLM"):
            Forced(3, role)  # pyright: ignore[reportArgumentType]
    with pytest.raises(InvalidRequest, match="forced has 100,001"):
        Request("x", forced=(Forced(0, Role.SLM),) * (MAX_FORCED + 1))
    with pytest.raises(InvalidRequest, match="raw = True"):
        Request("x", raw=True, turns=(Turn("user", "x"),))


@pytest.mark.parametrize(
    ("ids", "said"),
    [([], "no token"), ([1, 259], "token id = 259"), ([-1], "token id = -1"), ([1] * 2048, "too long")],
)
def test_a_prompt_of_token_ids_that_cannot_be_read_is_refused_before_any_model_runs(random_pair, ids, said):
    asked = build_request("x", policy="confidence")
    with pytest.raises(InvalidRequest, match=said):
        random_pair.start([asked], prompts=[ids])
    with pytest.raises(InvalidRequest, match=said):
        random_pair.texts([asked, asked], prompts=[[1], ids])


def test_a_request_is_changed_by_the_same_options_that_make_one():
    first = build_request("x", top_p=0.9, threshold=0.4, stop="y", turns=[Turn("user", "before")])
    changed = build_request(first, temperature=0.5, stop="z", turns=[])
    assert changed == build_request("x", temperature=0.5, top_p=0.9, threshold=0.4, stop=("z",))
    given = build_request(first, sampling=Sampling(top_k=7), temperature=0.5)
    assert given.sampling == Sampling(temperature=0.5, top_k=7)


def test_a_setting_is_read_as_it_is_written_and_parts_may_be_left_out():
    for text in ("router < 0.88 @ 0.3", "llm < 2", "random < 0.1 @ 0/8", "slm < 0 @ 1", "router < 1e-05 @ 0.1/1024"):
        assert str(Setting.parse(text)) == text
    assert [Setting.parse(text) for text in ("router", "<0.5", "0.5", "@0/auto")] == [Setting()] * 4
    for wrong in ("", "router <", "router < 3", "magic < 0.5", "router < 0.5 @ 2", "router / 8"):
        with pytest.raises(InvalidRequest, match=r"setting|threshold|policy|acceptance"):
            Setting.parse(wrong)


def test_options_that_make_no_request_are_refused_by_name():
    for prompt in ("x", Request("x")):
        with pytest.raises(InvalidRequest, match=r"treshold is not an option.*threshold"):
            build_request(prompt, treshold=0.5)
        with pytest.raises(InvalidRequest, match="temperature = -1"):
            build_request(prompt, temperature=-1)


def test_the_public_names_and_the_settings_do_not_import_torch():
    code = "import sys, engine, engine.settings, engine.models.sources; engine.Request('x'); engine.Trace"
    assert (
        subprocess.run([sys.executable, "-c", f"{code}; sys.exit('torch' in sys.modules)"], check=False).returncode == 0
    )
