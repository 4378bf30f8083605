"""The judge: what it decides, what stays true whatever it says, and the refusal of one that does not belong here."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from engine.batch.judge import Judge, JudgeCard
from engine.errors import InvalidRequest, RouterError
from engine.events import Role, charged, fold_revealed, keeps, taken_back
from engine.events.cost import costs
from engine.network import RouterNetwork
from engine.request import Request
from engine.scheduler import Scheduler

PROMPT = "What is 27 + 48?"
ASKED = {"policy": "confidence", "threshold": 0.3, "max_new_tokens": 40, "judge": "learned"}


def random_judge(pair, **changes):
    """A judge with random weights that are large enough for its estimates to differ."""
    torch.manual_seed(7)
    about = {"slm": pair.slm_name, "llm": pair.llm_name, "tokenizer": pair.fingerprint}
    card = JudgeCard("random", **{**about, "hidden_size": pair.llm.hidden_size, "width": 4, **changes})
    network = RouterNetwork(card.hidden_size + 1, card.width, skip=1)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.7)
    return Judge(network, card)


@pytest.fixture
def judged(random_pair):
    """A pair whose models seldom agree, with a judge."""
    random_pair.use_judge(random_judge(random_pair))
    yield random_pair
    random_pair.use_judge(None)


def drafts(trace):
    """What the SLM drafted and the LLM judged, kept or not."""
    written = [event for event in trace.events if event.role is Role.SLM]
    return written + [draft for event in trace.events for draft in event.taken_back[:1]]


@pytest.fixture
def lenient(judged):
    """The same, with a judge that finds some drafts harmless and others not; without a router all are looked at."""
    with torch.no_grad():
        judged.judge.network.layers[-1].bias.add_(6)
    return judged


EVERYWHERE = {**ASKED, "threshold": 0.0}


@pytest.mark.parametrize("acceptance", [0.2, 0.5, 0.8])
def test_the_text_does_not_depend_on_when_the_llm_reads(lenient, acceptance):
    asked = {"acceptance": acceptance, **EVERYWHERE}
    traces = [lenient.generate(PROMPT, max_draft=length, **asked) for length in (1, 3, 8, "auto")]
    assert len({tuple(event.id for event in trace.events) for trace in traces}) == 1
    assert {event.role for event in traces[0].events} == set(Role)
    for trace in traces:
        assert all(keeps(event.ratio, acceptance) for event in trace.events if event.role is Role.SLM)


def test_its_estimates_decide_instead_of_the_ratio(judged):
    learned = drafts(judged.generate(PROMPT, acceptance=0.5, **ASKED))
    ratios = drafts(judged.generate(PROMPT, acceptance=0.5, **{**ASKED, "judge": "ratio"}))
    assert {draft.ratio for draft in learned} != {draft.ratio for draft in ratios}
    assert len({draft.ratio for draft in learned}) > 3


@pytest.mark.parametrize(("acceptance", "draft"), [(0.5, 1), (0.5, 8), (0.2, "auto")])
def test_every_draft_that_it_looks_at_is_charged_and_none_where_the_ratio_decides(
    judged, monkeypatch, acceptance, draft
):
    looked, harmless = [], judged.judge.harmless
    monkeypatch.setattr(judged.judge, "harmless", lambda *given: looked.append(1) or harmless(*given))
    trace = judged.generate(PROMPT, acceptance=acceptance, max_draft=draft, **ASKED)
    assert sum(event.judgements for event in charged(trace.events)) == len(looked) > 3
    free = replace(trace.llm_cost, router_bytes=0, router_flops=0)
    run, without = (costs(trace.events, trace.prompt_tokens, trace.slm_cost, llm).run for llm in (trace.llm_cost, free))
    network = judged.judge.network
    assert run.bytes - without.bytes == len(looked) * network.bytes > 0
    assert run.flops - without.flops == len(looked) * network.flops > 0
    by_ratio = judged.generate(PROMPT, acceptance=acceptance, max_draft=draft, **{**ASKED, "judge": "ratio"})
    assert not any(event.judgements for event in charged(by_ratio.events))


@pytest.mark.parametrize("sampling", [{}, {"temperature": 1.0}])
def test_acceptance_1_gives_the_llms_text_whatever_it_says(judged, sampling):
    with torch.no_grad():
        judged.judge.network.layers[-1].bias.fill_(1e4)  # finds everything harmless
    learned = judged.generate(PROMPT, acceptance=1.0, **sampling, **ASKED)
    llm = judged.generate(PROMPT, policy="llm", max_new_tokens=40, **sampling)
    assert [event.id for event in learned.events] == [event.id for event in llm.events]


def test_acceptance_0_keeps_all(judged, monkeypatch):
    monkeypatch.setattr(judged.judge, "harmless", lambda *_: pytest.fail("it was asked"))
    texts = [judged.generate(PROMPT, acceptance=0.0, **{**ASKED, "judge": judge}) for judge in ("ratio", "learned")]
    assert texts[0].text == texts[1].text and not taken_back(texts[1].events)
    assert Role.SLM in {event.role for event in texts[1].events}


def test_a_draft_that_was_not_read_is_judged_when_the_text_goes_on(lenient):
    whole = lenient.generate(PROMPT, acceptance=0.5, max_draft=8, **EVERYWHERE)
    decoding = lenient.start([whole.request])
    for _ in range(60):
        decoding.step()
        row = decoding.rows[0]
        if row.provisional or row.finish_reason:
            break
    assert row.provisional
    decoding.resume(0, whole.request, list(row.events))
    decoding.finish()
    assert [event.id for event in decoding.rows[0].events] == [event.id for event in whole.events]


def test_a_batch_and_a_scheduler_that_are_there_already_use_the_judge_that_is_taken_into_use_later(random_pair):
    asked = Request(PROMPT, acceptance=0.5, **ASKED)
    decoding, scheduler = random_pair.open(), Scheduler(random_pair, 2)
    try:
        random_pair.use_judge(random_judge(random_pair))
        expected = [event.ratio for event in random_pair.generate(asked).events]
        random_pair.add(decoding, [asked])
        decoding.finish()
        handle = scheduler.submit(asked, "me")
        assert handle.wait(60)
        for events in (decoding.rows[0].events, handle.events):
            assert any(event.judgements for event in events)
            assert [event.ratio for event in fold_revealed(events)] == expected
    finally:
        scheduler.close()
        random_pair.use_judge(None)


def test_saved_and_loaded_it_says_the_same(judged, tmp_path):
    judged.judge.save(tmp_path)
    hidden, log_ratio = torch.randn(judged.llm.hidden_size), torch.tensor(-1.5)
    loaded = Judge.load(tmp_path)
    assert loaded.card == judged.judge.card
    assert loaded.harmless(hidden, log_ratio) == judged.judge.harmless(hidden, log_ratio)


def test_what_does_not_fit_is_refused(random_pair, tmp_path):
    with pytest.raises(InvalidRequest, match="none is loaded"):
        random_pair.generate(PROMPT, **ASKED)
    with pytest.raises(InvalidRequest, match="judge = 'fair' is unknown"):
        random_pair.generate(PROMPT, judge="fair")
    with pytest.raises(RouterError, match="was trained for other"):
        random_pair.use_judge(random_judge(random_pair, slm="other"))
    with pytest.raises(RouterError, match="cannot be read"):
        Judge.load(tmp_path)
    random_judge(random_pair, width=5).save(tmp_path)
    random_judge(random_pair).save(tmp_path / "narrow")
    (tmp_path / "judge.safetensors").write_bytes((tmp_path / "narrow" / "judge.safetensors").read_bytes())
    with pytest.raises(RouterError, match=r"does not match its card: 'layers\.0\.bias'"):
        Judge.load(tmp_path)
