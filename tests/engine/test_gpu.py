"""The same engine on CUDA. Marked `gpu`: run with `pytest -m gpu` where there is one."""

from __future__ import annotations

import pytest
import torch

from engine import Request

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device, and torch sees none"),
]


@pytest.fixture(scope="module", params=[False, True], ids=["", "graphs"])
def cuda_pair(request):
    from engine.pair import Pair
    from tests.support.random_pair import byte_tokenizer, random_model

    models = (random_model(1, layers=2, width=32, padding=5), random_model(2, layers=3, width=48, padding=69))
    slm, llm = (model.cuda() for model in models)  # pyright: ignore[reportCallIssue]
    return Pair(slm, llm, byte_tokenizer(), slm_name="small", llm_name="large", graphs=request.param)


@pytest.mark.parametrize("policy", ["confidence", "random", "slm", "llm"])
@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_a_gpu_writes_what_a_cpu_writes(cuda_pair, random_pair, policy, temperature):
    from engine import Sampling

    requests = [
        Request(prompt, 0.3, policy, raw=True, max_new_tokens=30, sampling=Sampling(temperature, 0.9))
        for prompt in ("hello", "a longer prompt", "日本")
    ]
    for ours, theirs in zip(cuda_pair.generate_batch(requests), random_pair.generate_batch(requests), strict=True):
        assert [(e.id, e.role) for e in ours.events] == [(e.id, e.role) for e in theirs.events]


@pytest.mark.slow
def test_the_gpu_preset_loads_in_4_bits_and_answers():
    from engine.pair import load

    pair = load("gpu")
    trace = pair.generate("What is 2 + 2?", policy="confidence", threshold=0.7, max_new_tokens=40)
    assert pair.quantisation == "NF4"
    assert "4" in trace.text
