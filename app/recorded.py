"""The text that a visitor finds: a real pair's answer to one prompt all along the threshold, to be dragged through.

It needs no model. `python -m tools.record` writes it, as traces, into `assets/recorded.json.xz`; the browser is sent
them as a sweep, in the page itself.
"""

from __future__ import annotations

import json
import lzma
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace

import engine
from app.compare.comparison import Comparison, comparison_message
from app.components import to_json
from app.figures import dial, pair_name, token_ratios
from app.scale import STEPS
from app.sweep import Sweep, SweptPoint, sweep_message
from engine import Prices, Trace
from engine.grading import is_right

FILE = Path(__file__).resolve().parent.parent / "assets" / "recorded.json.xz"
_LARGEST = 20_000_000  # bytes, unpacked


@dataclass(frozen=True)
class Recorded:
    """Texts of one prompt, from SLM-only to LLM-only, with where they come from.

    Attributes:
        threshold: Where the slider starts: the router's own, or that of the cheapest text with the right answer.
        command, revision, hardware: See `engine.provenance`.
        traces: By threshold, the last LLM-only.
        answer: The right answer, empty where none is known.
    """

    threshold: float
    command: str
    revision: str
    hardware: str
    traces: tuple[Trace, ...]
    answer: str = ""

    @cached_property
    def sweep(self) -> Sweep:
        """Its texts as a sweep that has ended, a row for each trace."""
        return _RecordedSweep(self.traces)

    @property
    def start(self) -> int:
        """The number of the text that a visitor finds."""
        return max(n for n, trace in enumerate(self.traces) if trace.threshold <= self.threshold)

    @property
    def slider(self) -> str:
        """Where the slider stands when the page is opened, as a message for it (see `app.scale.slider_message`)."""
        place, first = round(STEPS * self.start / max(1, len(self.traces) - 1)), self.traces[0]
        return to_json({"place": place, "ratios": token_ratios(first.slm_cost, first.llm_cost, Prices())})

    def message(self) -> str:
        """A sweep's message (see `sweep_message`) with `recorded`: the prompt, and what is said of its texts."""
        first = self.traces[0]
        said = (
            f"Recorded, not written now: {pair_name(first.slm, first.llm)} on {self.hardware} ({self.command}), "
            f"{first.policy}, acceptance {dial(first.acceptance)}."
        )
        recorded = {
            "prompt": first.prompt,
            "said": said,
            "verdicts": [is_right(self.traces[n].text, self.answer) for n in (0, self.start, -1)]
            if self.answer
            else [],
        }
        message = json.loads(sweep_message(self.sweep, 0)[0]) | {"run": self.sweep.id}
        return to_json({**message, "recorded": recorded})

    def race(self) -> str:
        """The three texts of the verdicts as a comparison that has ended (see `comparison_message`)."""
        chosen = [self.traces[n] for n in (0, self.start, -1)]
        job = Comparison(chosen[1].request, Prices(), self.answer)
        job.pair = SimpleNamespace(slm_cost=chosen[1].slm_cost, llm_cost=chosen[1].llm_cost)
        for text, trace in zip(job.texts.values(), chosen, strict=True):
            text.prompt_tokens = trace.prompt_tokens
            for event in trace.events:
                job.add(text, event)
        job.compare()
        job.number, job.state = 0, "done"
        job.finished.set()
        return comparison_message(job, 0)

    def save(self, path: Path) -> None:
        """Writes it, compressed: a line that says where it comes from, and a trace per line."""
        about = json.dumps({name: getattr(self, name) for name in (*_ABOUT, "answer")}, ensure_ascii=False)
        lines = [about, *(trace.to_json() for trace in self.traces)]
        path.write_bytes(lzma.compress("\n".join(lines).encode(), preset=9))


_ABOUT = ("threshold", "command", "revision", "hardware")


class _RecordedSweep(Sweep):
    """The traces as a sweep that has ended."""

    def __init__(self, traces: Sequence[Trace]) -> None:
        first = traces[0]
        super().__init__(first.request, Prices())
        self.number, self.state = 0, "done"
        self.prompt_tokens = first.prompt_tokens
        self._begin_rows([SweptPoint(trace.threshold, trace.acceptance) for trace in traces])
        for row, trace in enumerate(traces):
            self.pair = SimpleNamespace(slm_cost=trace.slm_cost, llm_cost=trace.llm_cost)
            for event in trace.events:
                self._grow(replace(event, row=row))
        self.finished.set()


def load_recorded(path: Path = FILE) -> Recorded | None:
    """Reads what the command wrote; None where there is no such file. Raises InvalidRequest for any other."""
    if not path.is_file():
        return None
    try:
        text = lzma.LZMADecompressor(memlimit=2**28).decompress(path.read_bytes(), _LARGEST)
        first, *lines = text.decode().split("\n")
        about, traces = json.loads(first), tuple(map(Trace.parse, lines))
        if not traces:
            raise ValueError("it has no text")
        return Recorded(**{name: about[name] for name in _ABOUT}, traces=traces, answer=str(about.get("answer", "")))
    except (lzma.LZMAError, ValueError, KeyError, TypeError, engine.InvalidRequest) as error:
        raise engine.InvalidRequest(f"{path.name} is not what `python -m tools.record` writes: {error}") from None
