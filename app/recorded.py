"""The text that a visitor finds: a real pair's answer to one prompt all along the threshold, to be dragged through.

It needs no model. `python -m tools.record` writes it, as traces, into `assets/recorded.json.xz`; the browser has
them in the page itself.
"""

from __future__ import annotations

import json
import lzma
from bisect import bisect_left
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import engine
from app.compare.comparison import Comparison
from app.components import to_json
from app.figures import cost_parts, dial, pair_name, token_ratios
from app.scale import STEPS
from app.stream.token_stream import in_common, token_row
from engine import TokenEvent, Trace
from engine.grading import is_right

FILE = Path(__file__).resolve().parent.parent / "assets" / "recorded.json.xz"
RUN = "recorded"
"""Stands for the id of a run."""

_LARGEST = 20_000_000  # bytes, unpacked


@dataclass(frozen=True)
class Recorded:
    """Texts of one prompt, from SLM-only to LLM-only, with where they come from.

    Attributes:
        threshold: Where the slider starts, the router's own.
        scale: The thresholds of the slider's positions (see `app.scale.pair_scale`).
        command, revision, hardware: See `engine.provenance`.
        traces: By threshold, one for each position where the text changes; the last is LLM-only.
        answer: The right answer, empty where none is known.
    """

    threshold: float
    scale: tuple[float, ...]
    command: str
    revision: str
    hardware: str
    traces: tuple[Trace, ...]
    answer: str = ""

    @property
    def start(self) -> int:
        """The number of the text that a visitor finds."""
        return max(n for n, trace in enumerate(self.traces) if trace.threshold <= self.threshold)

    @property
    def slider(self) -> str:
        """Where the slider stands when the page is opened, as a message for it (see `app.scale.slider_message`)."""
        place, first = bisect_left(self.scale, self.threshold), self.traces[0]
        return to_json({"place": place, "ratios": token_ratios(first.slm_cost, first.llm_cost)})

    def message(self) -> str:
        """What the text's component needs to know, as JSON.

        Returns:
            `run`, `prompt`, `scale`, `said` of its texts, and `rows`: [threshold, acceptance, cost (see `cost_parts`),
            whether it is right (None where no answer is known), how many tokens it has in common with the row before,
            those after them (see `token_row`, without threshold and acceptance)].
        """
        last = self.traces[-1]
        said = (
            f"Recorded, not written now: {pair_name(last.slm, last.llm)} on {self.hardware} ({self.command}), "
            f"{last.policy}, acceptance {dial(last.acceptance)}."
        )
        rows: list[list[Any]] = []
        before: list[Any] = []
        for trace in self.traces:
            tokens = [_token(event) for event in trace.events]
            cut = in_common(before, tokens)
            costs = cost_parts(trace.events, trace.prompt_tokens, trace.slm_cost, trace.llm_cost)
            right = is_right(trace.text, self.answer) if self.answer else None
            rows.append([trace.threshold, trace.acceptance, costs, right, cut, tokens[cut:]])
            before = tokens
        return to_json({"run": RUN, "prompt": last.prompt, "scale": self.scale, "said": said, "rows": rows})

    def race(self) -> str:
        """Small alone, together where the slider starts, large alone, as a comparison (see `Comparison.message`)."""
        chosen = [self.traces[n] for n in (0, self.start, -1)]
        job = Comparison(chosen[1].request)
        job.answer, job.pair = self.answer, SimpleNamespace(slm_cost=chosen[1].slm_cost, llm_cost=chosen[1].llm_cost)
        for (key, text), trace in zip(job.texts.items(), chosen, strict=True):
            text.prompt_tokens = trace.prompt_tokens
            for event in trace.events:
                job.add(key, event)
        job.number, job.state = 0, "done"
        job.finished.set()
        return job.message(0, over=True)[0]

    def save(self, path: Path) -> None:
        """Writes it, compressed: a line that says where it comes from, and a trace per line."""
        about = json.dumps({name: getattr(self, name) for name in (*_ABOUT, "answer")}, ensure_ascii=False)
        lines = [about, *(trace.to_json() for trace in self.traces)]
        path.write_bytes(lzma.compress("\n".join(lines).encode(), preset=9))


def _token(event: TokenEvent) -> list[Any]:
    return token_row(replace(event, threshold=0.0, acceptance=0.0))  # its row has both


_ABOUT = ("threshold", "scale", "command", "revision", "hardware")


def load_recorded(path: Path = FILE) -> Recorded | None:
    """Reads what the command wrote; None where there is no such file. Raises InvalidRequest for any other."""
    if not path.is_file():
        return None
    try:
        text = lzma.LZMADecompressor(memlimit=2**28).decompress(path.read_bytes(), _LARGEST)
        first, *lines = text.decode().split("\n")
        about, traces = json.loads(first), tuple(map(Trace.from_json, lines))
        if not traces:
            raise ValueError("it has no text")
        about["scale"] = tuple(about["scale"])
        if len(about["scale"]) != STEPS + 1:
            raise ValueError(f"its slider has {len(about['scale'])} positions, and this one {STEPS + 1}")
        return Recorded(**{name: about[name] for name in _ABOUT}, traces=traces, answer=str(about.get("answer", "")))
    except (lzma.LZMAError, ValueError, KeyError, TypeError, engine.InvalidRequest) as error:
        raise engine.InvalidRequest(f"{path.name} is not what `python -m tools.record` writes: {error}") from None
