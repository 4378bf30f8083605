"""The same processor held to fewer instructions, so that one machine shows what people have: AVX2, AVX512, or all.

Each set is measured by a process of its own, since torch, oneDNN, MKL and fbgemm look once at what they may use.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from subprocess import DEVNULL, run
from typing import Any

from engine.benchmark.markdown import code, table
from engine.errors import EngineError
from engine.provenance import ROOT, command, hardware, revision
from engine.settings import Settings

Json = dict[str, Any]

HELD: dict[str, dict[str, str]] = {
    "avx2": {
        "ATEN_CPU_CAPABILITY": "avx2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",
        "FBGEMM_ENABLE_INSTRUCTIONS": "AVX2",
    },
    # AVX512 as it first came, without VNNI and BF16. ATen knows no word for that, so the weights are chosen by name.
    "avx512": {
        "ONEDNN_MAX_CPU_ISA": "AVX512_CORE",
        "MKL_ENABLE_INSTRUCTIONS": "AVX512",
        "FBGEMM_ENABLE_INSTRUCTIONS": "AVX512",
        "CITER_CPU_WEIGHTS": "int8",
    },
    "all": {},
}
"""Environment variables by the set of instructions that they hold the libraries to."""

TITLES = {"avx2": "AVX2", "avx512": "AVX512", "all": "all that the processor has"}
ROWS = ("engine-slm", "engine-llm", "routed-20", "llama-slm", "llama-llm")
LENGTHS = (1, 4, 8, 16)
"""Tokens of the LLM's passes in the table."""
WANTED = {"avx2": (1.2, 1.0, 1.35), "avx512": (1.3, 1.0, 1.4)}
"""Of the SLM alone, the LLM alone, and routed at 20 %, over llama.cpp."""
LONGER = {4: 1.35, 8: 1.7, 16: 2.7}
"""What an LLM pass of some tokens may cost at most, in passes of one."""
SUMMARY = ROOT / "assets" / "benchmarks" / "instructions" / "cpu.json"


def environment(instructions: str, settings: Settings) -> dict[str, str]:
    """This process's environment with the libraries held; llama.cpp compiled for the set is found where it lies.

    That is the folder `llama/<set>` of the cache, a target of `pip install`; docs/speed.md says how it is made.
    """
    held = {**os.environ, **HELD[instructions]}
    compiled = settings.cache_dir / "llama" / instructions
    if compiled.is_dir():
        held["PYTHONPATH"] = os.pathsep.join(filter(None, [str(compiled), os.environ.get("PYTHONPATH")]))
    return held


def measure(sets: Sequence[str], arguments: Sequence[str], settings: Settings, report: Callable[[str], None]) -> Json:
    """Measures some sets, one after the other.

    Args:
        sets: Names of `HELD`.
        arguments: For each process, e.g. `["--rounds", "3"]`.

    Returns:
        `command`, `revision` and `sets`: per set its summary as `engine.benchmark.table.run` makes it.

    Raises:
        EngineError: A process failed; what it wrote to stderr has been shown.
    """
    summaries = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in sets:
            report(f"held to {TITLES[name]}")
            path = Path(folder) / f"{name}.json"
            line = [sys.executable, "-m", "engine.benchmark", "--preset", "cpu", "--only", *ROWS, "--json", str(path)]
            done = run([*line, *arguments], env=environment(name, settings), stdout=DEVNULL)
            if done.returncode:
                raise EngineError(f"the benchmark held to {TITLES[name]} ended with status {done.returncode}")
            summary = json.loads(path.read_text(encoding="utf-8"))
            summaries[name] = {**summary, "bars": _judged(name, summary)}
    return {"command": command("engine.benchmark"), "revision": revision(), "sets": summaries}


def _judged(name: str, summary: Json) -> list[Json]:
    """The verdicts on what a set is to reach in one run, as `engine.benchmark.table.judge` gives them."""
    from engine.benchmark.measure import spread  # late, as torch takes seconds and `render` can do without
    from engine.benchmark.table import Bar, faster, judge

    def longer(tokens: int) -> Callable[[Json], Json | None]:
        """Seconds of an LLM pass of some tokens over those of one token."""

        def read(summary: Json) -> Json | None:
            seconds = _passes(summary)
            return spread([seconds[tokens] / seconds[1]]) if tokens in seconds else None

        return read

    if name == "all":
        return judge(summary, [Bar("routed at 20 % / LLM only", 1.6, True, faster("routed-20", "engine-llm"))])
    slm, llm, routed = WANTED[name]
    bars = [
        Bar("SLM only / llama.cpp", slm, True, faster("engine-slm", "llama-slm")),
        Bar("LLM only / llama.cpp", llm, True, faster("engine-llm", "llama-llm")),
        Bar("routed at 20 % / llama.cpp, LLM only", routed, True, faster("routed-20", "llama-llm")),
        *(Bar(f"LLM pass of {tokens} tokens / of 1", most, False, longer(tokens)) for tokens, most in LONGER.items()),
    ]
    return judge(summary, bars)


def render(summary: Json) -> str:
    """The table of the sets as Markdown, their bars, and what was measured where."""
    sets: dict[str, Json] = summary["sets"]
    head = ["", "weights", "SLM only", "LLM only", "routed, 20 % LLM", "llama.cpp: SLM", "llama.cpp: LLM"]
    head += [f"LLM pass of {tokens}" for tokens in LENGTHS]
    machine, plan = next(iter(sets.values()))["machine"], next(iter(sets.values()))["plan"]
    made = (
        f"Tokens per second (median), and milliseconds of an LLM pass. {hardware(machine)}; prompts of "
        f"{plan['prompt']:,} tokens, {plan['tokens']:,} new ones, {plan['rounds']} rounds; llama.cpp with Q4_K_M, "
        f"compiled for the same instructions. {code(summary['command'])}, revision {summary['revision']}."
    )
    bars = [line for name, each in sets.items() for line in _bars(name, each)]
    parts = [table(head, [_row(name, each) for name, each in sets.items()]), made]
    if bars:
        parts.append(table(["held to", "bar", "wanted", "measured", ""], bars))
    return "\n\n".join(parts)


def render_short(summary: Json) -> str:
    """Tokens per second of each set, for the README."""
    head = ["instructions", "SLM only", "LLM only", "routed, 20 % LLM", "llama.cpp: LLM"]
    rows = [(name, dict(zip(ROWS, _row(name, each)[2:], strict=False))) for name, each in summary["sets"].items()]
    shown = ("engine-slm", "engine-llm", "routed-20", "llama-llm")
    body = [
        [f"held to {TITLES[name]}" if HELD[name] else TITLES[name], *(row[each] for each in shown)]
        for name, row in rows
    ]
    return f"{table(head, body)}\n\nTokens per second on {hardware(next(iter(summary['sets'].values()))['machine'])}."


def _passes(summary: Json) -> dict[int, float]:
    """Seconds of the LLM's passes by their tokens."""
    return dict(map(tuple, summary["models"]["llm"]["pass_table"]))


def _row(name: str, summary: Json) -> list[str]:
    rates = {row["name"]: f"{row['tokens_per_second']['median']:.3g}" for row in summary["rows"]}
    passes = _passes(summary)
    weights = summary["pair"].rpartition(" · ")[2]
    milliseconds = [f"{1e3 * passes[tokens]:.0f}" if tokens in passes else "–" for tokens in LENGTHS]
    return [TITLES[name], weights, *(rates.get(row, "–") for row in ROWS), *milliseconds]


def _bars(name: str, summary: Json) -> list[list[str]]:
    lines = []
    for bar in summary["bars"]:
        if bar["measured"] is None:
            continue
        word = "at least" if bar["at_least"] else "under"
        met = "met" if bar["met"] else f"missed by {bar['missed_by']:.0%}"
        lines.append([TITLES[name], bar["bar"], f"{word} {bar['wanted']:.2f}", f"{bar['measured']['median']:.2f}", met])
    return lines
