"""What a request to the endpoint asks for, by its body alone: the model's name and the rest.

The limits of what `engine.Request` takes, too, are in `tests.support.limits`, and damaged bodies in `test_formats`.
"""

from __future__ import annotations

import json

import pytest

from engine import load_settings
from engine.endpoint.bodies import named_setting, read_body
from engine.guard.refusals import Refusal
from engine.setting import DEFAULT_THRESHOLD, Setting

MESSAGES = [{"role": "user", "content": "Start with 12. Add 30. What is the result?"}]
USER = MESSAGES[0]


def asked(pair, chat=True, **fields):
    said = {"messages": MESSAGES} if chat else {"prompt": "12 + 30 ="}
    return read_body(json.dumps({"model": "tiny", **said, **fields}).encode(), chat, pair, load_settings())


@pytest.mark.parametrize(
    ("name", "setting"),
    [
        ("tiny", ("router", None, None)),
        ("tiny:0.25", ("router", 0.25, None)),
        ("tiny:.2@0.9/3", ("router", 0.2, 0.9, 3)),
        ("tiny:llm", ("llm", DEFAULT_THRESHOLD, 0.0)),
        ("tiny:confidence", ("confidence", DEFAULT_THRESHOLD, 0.0)),
        ("tiny:confidence < 0.8 @ 0.3/8", ("confidence", 0.8, 0.3, 8)),
    ],
)
def test_a_name_is_a_setting_and_what_it_leaves_out_is_the_hosts_or_the_routers(tiny_pair, name, setting):
    policy, threshold, acceptance, *draft = setting
    threshold = tiny_pair.threshold if threshold is None else threshold
    acceptance = tiny_pair.acceptance if acceptance is None else acceptance
    (request,) = asked(tiny_pair, model=name).requests
    assert request.setting == Setting(policy, threshold, acceptance, *draft)
    given = load_settings(setting="confidence < 0.3 @ 0.2/5")
    assert named_setting("tiny", tiny_pair, given) == Setting("confidence", 0.3, 0.2, 5)
    assert named_setting("tiny:slm", tiny_pair, given) == Setting("slm")


NO_NAMES = [
    "gpt-4",
    "",
    "TINY",
    "tiny:",
    "tiny:LLM",
    "tiny:nan",
    "tiny:oracle",
    "tiny:-1",
    "tiny:3",
    "tiny:١",
    "x" * 300,
]
NO_NAMES += ["tiny:0.5@", "tiny:0.5@1.1", "tiny:0.5@0.1@0", "router-tiny-0.5"]


def test_a_name_that_is_none_is_refused_with_those_there_are(tiny_pair):
    for name in NO_NAMES:
        with pytest.raises(Refusal, match="tiny") as refused:
            named_setting(name, tiny_pair, load_settings())
        assert refused.value.status == 404 and refused.value.body["error"]["code"] == "model_not_found"
        assert len(str(refused.value)) < 400


IMAGE = {"type": "image_url", "image_url": {}}
REFUSED = [
    ({"model": None}, "model"),
    ({"messages": []}, "messages"),
    ({"messages": [USER] * 1001}, "messages"),
    ({"messages": [{"role": "assistant", "content": "a"}]}, "messages"),
    ({"messages": [{"role": "tool", "content": "a"}]}, "messages[0].role"),
    (
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
        "messages[0].content[0].type",
    ),
    ({"max_completion_tokens": 10**9}, "max_completion_tokens"),
    ({"n": 33}, "n"),
    ({"n": True}, "n"),
    ({"stop": [""]}, "stop"),
    ({"stream": "yes"}, "stream"),
    ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
    ({"tools": [{"type": "function"}]}, "tools"),
    ({"response_format": {"type": "json_object"}}, "response_format"),
    ({"presence_penalty": 0.5}, "presence_penalty"),
    ({"wings": 2}, "wings"),
]
COMPLETIONS = [({"prompt": p}, "prompt") for p in (None, "", [], {"a": 1}, ["a"] * 33)]
COMPLETIONS += [
    ({"prompt": [1, 2]}, "prompt[0]"),
    ({"prompt": ["a", [1]]}, "prompt[1]"),
    ({"prompt": ["a"] * 11, "n": 3}, "n"),
    ({"echo": True}, "echo"),
]


@pytest.mark.parametrize("chat, fields, param", [(True, *row) for row in REFUSED] + [(False, *r) for r in COMPLETIONS])
def test_what_is_not_served_is_refused_by_the_name_of_its_field(tiny_pair, chat, fields, param):
    with pytest.raises(Refusal) as refused:
        asked(tiny_pair, chat, **fields)
    assert refused.value.status == 400 and refused.value.body["error"]["param"] == param
    assert len(str(refused.value)) < 500
    neutral = {"frequency_penalty": 0.0, "logit_bias": {}, "tools": [], "response_format": {"type": "text"}}
    assert asked(tiny_pair, user="ann", max_tokens=1, **neutral).requests[0].max_new_tokens == 1


def test_the_seeds_of_several_texts_follow_each_other_and_begin_again_after_the_last(tiny_pair):
    requests = asked(tiny_pair, False, prompt=["a", "b"], n=2, seed=2**63 - 1).requests
    assert [(request.prompt, request.seed) for request in requests] == [
        (prompt, seed) for prompt in "ab" for seed in (2**63 - 1, 0)
    ]
    assert asked(tiny_pair, seed=-1).requests[0].seed == 2**63 - 1
