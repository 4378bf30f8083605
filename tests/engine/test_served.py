"""An LLM behind a server writes, token for token, what it writes in this process."""

from __future__ import annotations

import json
import logging
import math
import unicodedata
from itertools import pairwise

import pytest

from engine import (
    EngineError,
    InvalidRequest,
    Sampling,
    ServerError,
    SettingsError,
    Trace,
    costs,
    load,
    load_settings,
)  # fmt: skip
from engine.__main__ import meter
from engine.events import llm_passes, llm_tokens
from engine.scheduler import Scheduler
from engine.served import vllm
from engine.served.model import ServedModel
from engine.tokenizer import probe_strings
from tests.support.fake_llm_server import served
from tests.support.paths import TINY
from tests.support.served_pair import KEY, PROMPTS, THRESHOLDS, asked, loaded, written
from trainer.labels.labels import served_log_probabilities


@pytest.fixture(scope="module")
def both(tiny_pair):
    """A server, and the pair that asks it."""
    with served(tiny_pair) as server, loaded(server) as pair:
        yield server, pair


def test_the_pair_writes_what_it_writes_in_one_process(both, tiny_pair):
    server, pair = both
    requests = [asked(prompt, t, a) for prompt in PROMPTS[:2] for t in THRESHOLDS for a in (0.0, 0.5, 1.0)]
    before, server.at_once, server.together = server.asked, 0, 2
    theirs, ours = pair.generate_batch(requests), tiny_pair.generate_batch(requests)
    assert written(theirs) == written(ours)
    passes = sum(llm_passes(trace.events) for trace in ours)
    assert server.asked - before <= passes, "a text that others share is asked about once"
    assert server.at_once > 1, "rows are asked about side by side"
    kept = [(a, b) for a, b in zip(theirs, ours, strict=True) if not a.acceptance]
    assert all([e.llm_fed for e in a.events] == [e.llm_fed for e in b.events] for a, b in kept)


def test_every_question_carries_the_whole_text_and_only_what_is_new_is_charged(both):
    server, pair = both
    before, connections = len(server.seen), len(server.open)
    trace = pair.generate(asked(PROMPTS[0], 1.01, alternatives=3))
    assert len(server.open) <= connections + 1, "it is kept open"
    texts = [body["prompt"] for body in server.seen[before:]]
    assert len(texts) == len(trace.events) == llm_tokens(trace.events)
    assert all(longer[: len(text)] == text for text, longer in pairwise(texts))
    assert [event.llm_fed for event in trace.events] == [trace.prompt_tokens] + [1] * (len(texts) - 1)
    assert all(event.llm_alternatives[0].id == event.id for event in trace.events)
    assert Trace.from_json(trace.to_json()).events == trace.events


def test_sampling_draws_from_the_likeliest_tokens_that_the_server_tells(both, tiny_pair):
    _, pair = both
    hot = [Sampling(temperature=1.3, top_k=k, top_p=p) for k, p in ((20, 1.0), (5, 1.0), (20, 0.9))]
    requests = [asked(PROMPTS[1], t, a, seed=7, sampling=s) for s in hot for t, a in ((1.01, 0), (0.6, 0), (0.3, 1))]
    assert written(pair.generate_batch(requests)) == written(tiny_pair.generate_batch(requests))


def test_what_a_served_llm_cannot_do_is_refused_with_the_reason(both):
    _, pair = both
    with pytest.raises(InvalidRequest, match=r"repetition_penalty = 1\.2"):
        pair.check(asked(PROMPTS[0], 0.5, sampling=Sampling(repetition_penalty=1.2)))
    with pytest.raises(EngineError, match="CITER_LLM_URL"):
        _ = pair.models


def test_a_server_that_does_not_answer_as_vllm_is_refused_at_the_start(tiny_pair):
    with served(tiny_pair) as server:
        server.fault = lambda _: "shape"
        with pytest.raises(ServerError, match=r"needs vLLM.*wrong answer: KeyError: 'choices'"), loaded(server):
            pass


def test_vllm_reads_the_whole_text_to_judge_a_draft_and_that_is_charged(tiny_pair):
    request = asked(PROMPTS[0], 0.0, 1.0, max_draft=4)
    with served(tiny_pair) as server, loaded(server) as pair:
        trace, cheap = pair.generate(request), tiny_pair.generate(request)
    assert [event.id for event in trace.events] == [event.id for event in cheap.events]
    looks = [event for event in trace.events if event.llm_fed]
    assert all(event.llm_fed >= trace.prompt_tokens for event in looks) and len(looks) > 2
    run, less = (costs(t.events, t.prompt_tokens, tiny_pair.slm_cost, tiny_pair.llm_cost).run for t in (trace, cheap))
    assert run.flops > less.flops and run.bytes > less.bytes


def test_the_cost_of_a_served_llm_is_what_is_known(both, tiny_pair, tmp_path):
    server, pair = both
    trace = pair.generate(asked(PROMPTS[0], 0.9))
    cost = costs(trace.events, trace.prompt_tokens, trace.slm_cost, trace.llm_cost)
    assert cost.llm_only.bytes == 0 and cost.llm_only.price > cost.slm_only.price > 0 and cost.run.seconds > 0
    assert cost.unknown == json.loads(trace.to_json())["cost"]["unknown"] == ["bytes", "flops"]
    assert meter(trace).splitlines()[2].split()[2] == "–", "the SLM's bytes are not the run's"
    with loaded(server, llm_config=TINY / "llm") as known:
        for unit in ("trunk_bytes", "head_bytes", "kv_bytes", "trunk_flops", "head_flops", "attention_flops"):
            assert getattr(known.llm_cost, unit) == getattr(tiny_pair.llm_cost, unit)
    about = json.loads((TINY / "llm" / "config.json").read_text(encoding="utf-8"))
    (tmp_path / "config.json").write_text(json.dumps(about | {"model_type": "qwen2_moe"}), encoding="utf-8")
    with pytest.raises(SettingsError, match="CITER_LLM_CONFIG"), loaded(server, llm_config=tmp_path):
        pass  # its bytes do not follow from its configuration


def test_a_token_that_the_server_spells_otherwise_is_found_at_the_start(tiny_pair):
    strings = probe_strings(tiny_pair.tokenizer)
    assert len(set(strings)) == len(strings) > 100 and all(unicodedata.is_normalized("NFC", text) for text in strings)
    assert {*map(str, tiny_pair.tokenizer.all_special_tokens)} <= {*strings}
    with served(tiny_pair) as server:
        plain = server.tokens
        server.tokens = lambda text: plain(text)[::-1] if "São" in text else plain(text)
        with pytest.raises(SettingsError, match="its tokenizer differs: 'São "), loaded(server):
            pass
        assert server.asked == 1, "no text was begun"


def test_settings_that_do_not_fit_are_refused_by_name(tiny_pair):
    with served(tiny_pair) as server, pytest.raises(SettingsError, match=r"NAME = other: .*org/tiny-llm"):
        load("tiny", load_settings(llm_url=server.url, llm_name="other"))


def test_the_server_writes_and_scores_whole_texts(tiny_pair):
    trace = tiny_pair.generate(asked(PROMPTS[0], 1.01, alternatives=1))
    ids = [event.id for event in trace.events]
    with served(tiny_pair) as server, loaded(server) as pair:
        prompt = pair.texts([trace.request])[0].tokens
        assert isinstance(pair.llm, ServedModel)
        fields = {"max_tokens": len(ids), "return_token_ids": True}
        assert pair.llm.ask(prompt, fields, lambda choice: vllm.ids(choice["token_ids"])).result() == ids
        told = served_log_probabilities(pair.llm, prompt, ids).result()
        for event, (own, likeliest) in zip(trace.events, told, strict=True):
            assert own == pytest.approx(math.log(event.llm_alternatives[0].probability), abs=1e-4)
            assert likeliest == event.id
        wrong, likeliest = served_log_probabilities(pair.llm, prompt, [0]).result()[0]
        assert wrong < told[0][0] and likeliest == ids[0], "also of a token that is not likely"


def test_the_key_reaches_the_server_in_utf_8_and_nobody_else(tiny_pair, caplog):
    caplog.set_level(logging.DEBUG)
    key = KEY + "-schlüssel-鍵"
    with served(tiny_pair, key=key.encode().decode("latin-1")) as server:
        for wrong in ("", key + "-wrong"):
            with pytest.raises(ServerError, match=r"refuses the key.*CITER_LLM_KEY") as refused:
                load("tiny", load_settings(llm_url=server.url, **({"llm_key": wrong} if wrong else {})))
            assert KEY not in str(refused.value)
        with loaded(server, llm_key=key) as pair:
            server.fault = lambda number: "500" if number % 2 else None
            trace = pair.generate(asked(PROMPTS[0], 1.01))
            server.key = "changed"
            with pytest.raises(ServerError) as refused:
                pair.generate(asked(PROMPTS[0], 1.01))
            said = (trace.to_json(), str(refused.value), str(vars(pair)), caplog.text)
    assert "status 500" in caplog.text
    assert not [text for text in said if KEY in text]


def test_an_answer_that_does_not_come_holds_up_nobody_else_and_can_be_stopped(tiny_pair):
    with served(tiny_pair) as server, loaded(server) as pair:
        server.fault = lambda number: "held"
        scheduler = Scheduler(pair)
        try:
            waits = scheduler.submit(asked(PROMPTS[0], 1.01), "one")
            writes = scheduler.submit(asked(PROMPTS[1], 0.0), "other")
            assert writes.wait(120) and writes.state == "done" and not waits.events
            waits.cancel()
            assert waits.wait(120) and not server.answers.is_set()
        finally:
            server.answers.set()
            scheduler.close()
