"""The same engine on CUDA (`pytest -m gpu`); some of it on the processor, too, so that the tests are known to work."""

from __future__ import annotations

from itertools import product

import pytest
import torch

from engine import Request, Setting, Trace, build_request, first_flip
from engine.pair import Pair, load
from tests.support.random_gguf import by_bitsandbytes, random_qwen
from tests.support.random_pair import byte_tokenizer, random_model
from tests.support.slow_reference import SlowReference
from tests.support.texts import GREEDY, SAMPLED, assert_same_up_to_a_tie, ids, raw

NO_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device, and torch sees none")
PROMPTS = ("hello", "a longer prompt", "日本", "a longer prompt that goes on and on")
DIALS = list(product((0.0, 0.12, 0.3, 1.01), (0.0, 0.02, 0.3, 1.0)))
EVERY = list(product(("confidence", "random", "slm", "llm"), (GREEDY, SAMPLED)))


def on(device: str, *cases: object):
    marks = [pytest.mark.gpu, NO_GPU] if device == "cuda" else []
    return [pytest.param(device, *(case if isinstance(case, tuple) else [case]), marks=marks) for case in cases]


def pair_on(device: str, slm, llm) -> Pair:
    return Pair(slm.to(device), llm.to(device), byte_tokenizer(), slm_name="small", llm_name="large")


def requests(**options) -> list[Request]:
    """Every dial, at prompts and draft lengths that change from one to the next."""
    return [
        raw(PROMPTS[n % 4], threshold=t, acceptance=a, max_draft=(1, 3, 8, "auto")[n % 4], seed=n, **options)
        for n, (t, a) in enumerate(DIALS)
    ]


@pytest.mark.parametrize(("device", "policy", "sampling"), [*on("cpu", *EVERY[1::5]), *on("cuda", *EVERY)])
def test_rows_that_come_and_go_are_the_defined_texts_at_every_dial(random_pair, device, policy, sampling):
    """The definition is read on the processor, in fp32."""
    models = random_model(1, layers=2, width=32, padding=5), random_model(2, layers=3, width=48, padding=69)
    slm, llm = models
    pair, reference = pair_on(device, slm, llm), SlowReference(random_pair)
    waiting, decoding, ended = requests(policy=policy, sampling=sampling, alternatives=2), pair.open(6), 0
    while waiting or decoding.active:
        while waiting and len(decoding.texts) < 6:
            decoding.add(pair.texts([waiting.pop()]))
        for text in decoding.step(reading=(None, 16)[ended % 2]):
            if text.finish_reason:
                decoding.remove(text)
                reference.check(text.request, text.events, rounding=1e-3)
                ended += 1
    assert ended == len(DIALS)


def check_dials(pair: Pair, trace: Trace) -> None:
    """Each token is by whom its score and its ratio say; a text that is all the LLM's is that of the LLM alone."""
    request = trace.request
    assert first_flip(trace.events, request.setting) is None
    if request.setting.acceptance == 1 or request.setting.threshold > 1:
        llm = pair.generate(build_request(request, threshold=1.01, acceptance=0.0))
        start = torch.tensor([pair.texts([request])[0].tokens], device=pair.slm.device)
        assert_same_up_to_a_tie(pair.models[1].model, start, ids(trace.events), ids(llm.events))


@pytest.mark.parametrize("device", [*on("cpu", ()), *on("cuda", ())])
def test_nf4_writes_by_its_dials_alone_and_in_rows(device):
    models = [by_bitsandbytes(random_qwen(seed)) for seed in (3, 4)]
    slm, llm = models
    pair = pair_on(device, slm, llm)
    asked = requests(max_new_tokens=16 if device == "cpu" else 40)
    for request, trace in zip(asked, pair.generate_batch(asked), strict=True):
        alone = pair.generate(request)
        check_dials(pair, trace)
        check_dials(pair, alone)
        if request.setting.threshold == 0 and request.setting.acceptance == 0:
            start = torch.tensor([pair.texts([request])[0].tokens], device=device)
            assert_same_up_to_a_tie(pair.slm.model, start, ids(trace.events), ids(alone.events))


@pytest.mark.slow
@pytest.mark.gpu
@NO_GPU
def test_the_gpu_preset_loads_in_4_bits_and_answers_at_acceptance_in_rows():
    pair = load("gpu")
    settings = Setting("confidence", 0.7), Setting("confidence", 0, 1)
    asked = [Request("What is 2 + 2?", setting, max_new_tokens=40) for setting in settings]
    assert pair.quantisation == "NF4"
    for trace in pair.generate_batch(asked):
        assert "4" in trace.text
        check_dials(pair, trace)
