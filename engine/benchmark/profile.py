"""Where the time of a step goes: `python -m engine.benchmark --profile`.

torch's profiler sees every operator; named ranges around a few of the engine's functions say which operators are
`lm_head`, the router's, sampling's or the cache's. Every microsecond of a step is counted once, so the parts add up to
it: what no operator accounts for is Python (and, on a GPU, launches and waiting).
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import Any
from unittest.mock import patch

from torch.profiler import ProfilerActivity, record_function
from torch.profiler import profile as torch_profile

import engine.decoding
import engine.model.kv_cache
import engine.model.nf4
from engine.benchmark.markdown import code, table
from engine.benchmark.measure import Plan, about
from engine.benchmark.rows import BATCHES, MAIN_SHARE
from engine.benchmark.subject import Subject, prompt_of
from engine.benchmark.writers import ForcedShare, begin, router_of
from engine.decoding import Decoding
from engine.events import Role
from engine.model.any_model import synchronise
from engine.policy import FixedPolicy, Policy
from engine.provenance import hardware

STEP, PYTHON, SMALL = "step", "Python", "small operators"
LINEAR, ATTENTION, HEAD = "linear layers", "attention", "lm_head"
ROUTER, SAMPLING, CACHE = "router", "sampling", "cache writes"
PARTS: tuple[str, ...] = (LINEAR, ATTENTION, HEAD, CACHE, ROUTER, SAMPLING, SMALL, PYTHON)
_RANGES = (HEAD, ROUTER, SAMPLING, CACHE, LINEAR)  # lm_head is a linear layer itself: an outer range comes first
# By the names of operators; what is inside of one of them is part of it. Attention's own products come before linear.
_KINDS = (
    (ATTENTION, re.compile(r"^aten::_?scaled_dot_product|^aten::_?flash_attention|^aten::_efficient_attention")),
    (LINEAR, re.compile(r"^(bitsandbytes|torchao|quantized|mkldnn)::|^aten::(linear|addmm|mm|bmm|matmul|_weight_int)")),
)
WARM = 3  # steps that are not counted


def profile(subject: Subject, plan: Plan) -> dict[str, Any]:
    """Profiles steps of the SLM (routed, none to the LLM), of the LLM alone, and routed at 30 %, one text and many.

    Returns:
        The head of a summary (see `about`), and under `steps` per kind of step the milliseconds of each part, of the
        whole step, and of the same step without the profiler.
    """
    tokens = max(WARM + 1, plan.steps)
    forced, many = ForcedShare(router_of(subject.pair), tokens), BATCHES[-1]
    kinds: dict[str, tuple[Policy, float, int]] = {
        "SLM": (forced, 0.0, 1),
        "LLM": (FixedPolicy(Role.LLM), 0.0, 1),
        "routed, 30 % LLM": (forced, MAIN_SHARE, 1),
        f"{many} texts at once": (forced, MAIN_SHARE, many),
    }

    def start(policy: Policy, threshold: float, texts: int) -> Decoding:
        prompts = [prompt_of(subject.pair.tokenizer, plan.prompt, number) for number in range(texts)]
        decoding = begin(subject.pair, prompts, policy, [threshold] * texts, tokens)
        for _ in range(WARM):
            decoding.step()
        return decoding

    steps = {
        name: {**_profiled(subject, kind[0], start(*kind)), "unprofiled": _milliseconds(subject, start(*kind))}
        for name, kind in kinds.items()
    }
    return {**about(subject), "steps": steps}


def render_profile(summary: dict[str, Any]) -> str:
    """A profile as Markdown: a column of milliseconds and shares per kind of step."""
    steps = summary["steps"]
    rows = [
        [part, *(f"{step['parts'][part]:.2f} ms, {step['parts'][part] / step['whole']:.0%}" for step in steps.values())]
        for part in PARTS
    ]
    rows.append(["**step**", *(f"**{step['whole']:.2f} ms**" for step in steps.values())])
    rows.append(["the same without the profiler", *(f"{step['unprofiled']:.2f} ms" for step in steps.values())])
    made = f"{code(summary['command'])}, revision {summary['revision']}, on {hardware(summary['machine'])}."
    return "\n\n".join([f"### {summary['pair']}: where a step's time goes", table(["", *steps], rows), made])


def _profiled(subject: Subject, policy: Policy, decoding: Decoding) -> dict[str, Any]:
    on_gpu = subject.device.type == "cuda"
    activities = [ProfilerActivity.CPU, *[ProfilerActivity.CUDA] * on_gpu]
    with _ranges(subject, policy), torch_profile(activities=activities) as profiler:
        whole = _milliseconds(subject, decoding, lambda: record_function(STEP))
    steps = len(decoding.rows[0].events) - WARM
    totals = split(list(profiler.events() or []), on_gpu)
    parts = {part: totals[part] / steps for part in PARTS if part != PYTHON}
    return {"whole": whole, "parts": {**parts, PYTHON: whole - sum(parts.values())}}


def _milliseconds(
    subject: Subject, decoding: Decoding, around: Callable[[], AbstractContextManager[object]] = nullcontext
) -> float:
    """Of a step, on average until the texts are finished; `around` is entered for each."""
    started, steps = time.perf_counter(), 0
    while decoding.active:
        with around():
            decoding.step()
            synchronise(subject.device)
        steps += 1
    return 1e3 * (time.perf_counter() - started) / steps


def split(events: Sequence[Any], on_gpu: bool = False) -> dict[str, float]:
    """Milliseconds of each part but Python, over all of a profile's events.

    Args:
        events: The profiler's: each with a name, its parent, and the time that is its own.
        on_gpu: Count the time of a GPU's kernels, and not that of the CPU's calls.
    """
    totals = dict.fromkeys(PARTS, 0.0)
    for event in events:
        part = part_of(event)
        if part is not None:
            totals[part] += (event.self_device_time_total if on_gpu else event.self_cpu_time_total) / 1e3
    return totals


def part_of(event: Any) -> str | None:
    """The part of a step that an event belongs to: that of the range around it, else of its operator.

    None for what is in no step, and for a step's own time, which is Python's.
    """
    above = [event]
    while above[-1].cpu_parent is not None:
        above.append(above[-1].cpu_parent)
    names = [each.name for each in above]
    if names[0] == STEP or STEP not in names:
        return None
    around = next((name for name in _RANGES if name in names), None)
    if around is not None:
        return around
    return next((part for part, kind in _KINDS if any(kind.match(name) for name in names)), SMALL)


def _ranges(subject: Subject, policy: Policy) -> ExitStack:
    """Puts a named range around every call of a few functions while it is open."""
    functions = (
        (subject.pair.slm, "logits", HEAD),
        (subject.pair.llm, "logits", HEAD),
        (policy, "score", ROUTER),
        (engine.decoding, "sample", SAMPLING),
        (engine.model.kv_cache.RaggedAttention, "store", CACHE),
        (engine.model.nf4.Nf4Linear, "__call__", LINEAR),  # its kernel is no operator of torch's
    )
    stack = ExitStack()
    for owner, name, label in functions:
        stack.enter_context(patch.object(owner, name, record_function(label)(getattr(owner, name))))
    return stack
