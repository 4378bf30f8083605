"""What the page is sent of a tuning: progress, both curves, the router's own, and what every prompt gave.

Curves travel whole, being a dozen points; prompts only once. Texts are sent when they are asked for. The script that
draws is `assets/page/tune.js`.
"""

from __future__ import annotations

import time
from typing import Any

from app.components import to_json
from app.controls import POLICY_LABELS
from app.header import pair_name
from app.host import Host
from app.prompt_formats import shorten
from app.tuning import Tuning
from app.tuning_curve import PromptResult
from engine.operating_points import Curve

_SHOWN = 160  # characters of a prompt in the list


def tuning_message(tuning: Tuning, host: Host, start: int = 0) -> str:
    """Everything of a tuning but the prompts that the browser already has, as JSON.

    Args:
        tuning: Whose state.
        host: Says what it waits for.
        start: How many prompts' results the browser has.

    Returns:
        `run`, `n` (its number), `from`, `count`, `state`, `note`, `done`, `total`; `about` (what was asked of what);
        `curves` by quality and `shipped`, each with `points` (see `_curve`), or None; and `prompts`: [number, place,
        prompt, expected answer, right per point, agreement per point].
    """
    state = tuning.state  # before the results: a tuning that is done by now has all of them
    results = list(tuning.results)
    pair, shipped = tuning.pair, tuning.shipped
    name = f"{pair_name(pair.slm_name, pair.llm_name)} · {pair.quantisation}" if pair else ""
    device = pair.device if pair else ""
    message = {
        "run": tuning.id,
        "n": tuning.number,
        "from": start,
        "count": len(results) - start,
        "state": state,
        "note": tuning.error or progress(tuning, host),
        "done": len(results),
        "total": len(tuning.rows),
        "about": {
            "policy": tuning.policy,
            "scored_by": POLICY_LABELS[tuning.policy],
            "pair": name,
            "device": device,
            "preset": pair.preset if pair else "",
            "router": pair.router.name if pair and pair.router and tuning.policy == "router" else None,
            "max_new_tokens": tuning.request.max_new_tokens,
            "seed": tuning.request.seed,
        },
        "curves": {kind: curve and _curve(curve) for kind, curve in tuning.curves().items()},
        "shipped": shipped and {**_curve(shipped), "task": shipped.task, "pair": shipped.pair},
        "prompts": [_prompt(tuning, result) for result in results[start:]],
    }
    return to_json(message)


def text_message(tuning: Tuning, row: int, point: int) -> str | None:
    """What a prompt became at a point, with the whole prompt and answer, as JSON; None where it is not there."""
    found = next((result for result in list(tuning.results) if result.row == row), None)
    if found is None or not 0 <= point < len(found.points):
        return None
    asked = tuning.rows[row]
    return to_json({"prompt": asked.prompt, "expected": asked.expected, "text": found.points[point].text})


def progress(tuning: Tuning, host: Host) -> str:
    """How far it is, for people: "23 of 200 prompts · about 4 min left", or what it waits for."""
    done, total = len(tuning.results), len(tuning.rows)
    of = f"{done} of {total} prompt{'s' if total != 1 else ''}"
    if tuning.state not in ("waiting", "running"):
        return of
    if tuning.cancel.is_set():
        return f"{of} · stopping …"
    if tuning.state == "waiting":
        if host.status.phase == "loading":
            return "Waiting for the models to load; the prompts start by themselves."
        ahead = host.ahead(tuning)
        return f"Waiting: {ahead} before yours." if ahead else "Reading the prompts …"
    if tuning.began is None:
        return f"{of} · choosing thresholds by the scores of the first …"
    token = f" · the next at token {tuning.token:,}" if tuning.token else ""
    left = (time.monotonic() - tuning.began) / done * (total - done) if done else None
    return of + token + (f" · about {_duration(left)} left" if left is not None else "")


def _duration(seconds: float) -> str:
    if seconds < 50:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes / 60:.1f} h"


def _curve(curve: Curve) -> dict[str, Any]:
    """How many questions, and per point: threshold, quality, low, high, LLM share, bytes, FLOPs, seconds."""
    points = [
        [p.threshold, p.accuracy, p.accuracy_low, p.accuracy_high, p.llm_share, p.bytes, p.flops, p.seconds]
        for p in curve.measured
    ]
    return {"questions": curve.questions, "points": [[_short(value) for value in point] for point in points]}


def _prompt(tuning: Tuning, result: PromptResult) -> list[Any]:
    row = tuning.rows[result.row]
    right = [one.right for one in result.points] if row.expected is not None else None
    prompt, expected = (None if text is None else shorten(text, _SHOWN) for text in (row.prompt, row.expected))
    return [result.row, row.place, prompt, expected, right, [round(one.agreement, 3) for one in result.points]]


def _short(value: float) -> float:
    return float(f"{value:.9g}")
