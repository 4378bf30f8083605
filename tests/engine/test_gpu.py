"""The same engine on CUDA. Marked `gpu`: run with `pytest -m gpu` where there is one."""

from __future__ import annotations

from itertools import product

import pytest
import torch

from engine import Request, Role
from engine.pair import Pair, load
from tests.support.random_gguf import by_bitsandbytes, random_qwen
from tests.support.random_pair import byte_tokenizer, random_model
from tests.support.slow_reference import SlowReference
from tests.support.texts import GREEDY, SAMPLED, assert_same_up_to_a_tie, ids, raw

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device, and torch sees none"),
]
GRAPHS = pytest.mark.parametrize("graphs", [False, True], ids=["", "graphs"])
DEVICE = "cuda"
PROMPTS = ("hello", "a longer prompt", "日本", "a longer prompt that goes on and on")
DIALS = list(product((0.0, 0.12, 0.3, 1.01), (0.0, 0.02, 0.3, 1.0)))


def on_gpu(slm, llm, graphs: bool) -> Pair:
    return Pair(slm.to(DEVICE), llm.to(DEVICE), byte_tokenizer(), slm_name="small", llm_name="large", graphs=graphs)


def requests(**options) -> list[Request]:
    """Every dial, at prompts and draft lengths that change from one to the next."""
    return [
        raw(PROMPTS[n % 4], threshold=t, acceptance=a, max_draft=(1, 3, 8, "auto")[n % 4], seed=n, **options)
        for n, (t, a) in enumerate(DIALS)
    ]


@GRAPHS
@pytest.mark.parametrize("policy", ["confidence", "random", "slm", "llm"])
@pytest.mark.parametrize("sampling", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
def test_a_gpu_writes_the_defined_text_at_every_acceptance_in_rows_that_come_and_go(
    random_pair, policy, sampling, graphs
):
    """The definition is read on the processor, in fp32."""
    models = random_model(1, layers=2, width=32, padding=5), random_model(2, layers=3, width=48, padding=69)
    pair, reference = on_gpu(*models, graphs), SlowReference(random_pair)
    waiting, decoding, ended = requests(policy=policy, sampling=sampling, alternatives=2), pair.open(6), 0
    while waiting or decoding.active:
        while waiting and sum(row.unfinished for row in decoding.rows) < 6:
            pair.add(decoding, [waiting.pop()])
        for event in decoding.step(reading=(None, 16)[ended % 2]):
            if event.finish_reason:
                row = decoding.remove(event.row)
                reference.check(row.request, row.events, rounding=1e-3)
                ended += 1
    assert ended == len(DIALS)


@GRAPHS
def test_nf4_writes_the_same_alone_and_in_rows_and_at_acceptance_1_the_llms_text_up_to_ties(graphs):
    models = [by_bitsandbytes(random_qwen(seed)) for seed in (3, 4)]
    pair = on_gpu(*models, graphs)
    for request, trace in zip(requests(), pair.generate_batch(requests()), strict=True):
        alone = pair.generate(request)
        start = torch.tensor([pair.prepare(request)[1]], device=DEVICE)
        model = pair.models[1].model
        if request.acceptance == 1 or request.threshold > 1:
            llm = pair.generate(raw(request.prompt, policy="llm"))
            assert_same_up_to_a_tie(model, start, ids(trace.events), ids(llm.events))
            assert_same_up_to_a_tie(model, start, ids(alone.events), ids(llm.events))
        elif request.threshold == 0 and request.acceptance == 0:
            assert_same_up_to_a_tie(pair.slm.model, start, ids(trace.events), ids(alone.events))


@pytest.mark.slow
def test_the_gpu_preset_loads_in_4_bits_and_answers_at_acceptance_in_rows():
    pair = load("gpu")
    asked = [Request("What is 2 + 2?", t, "confidence", acceptance=a, max_new_tokens=40) for t, a in ((0.7, 0), (0, 1))]
    assert pair.quantisation == "NF4"
    for trace in pair.generate_batch(asked):
        assert "4" in trace.text and {event.role for event in trace.events} <= set(Role)
