"""A trace as JSON, short enough for a link, and as a page of its own that shows the coloured text without a server.

Pure functions. The part of a link behind `#` reaches only the server whose page opens it. The page links to the
project's home, where it is known, and to the paper. It is safe to open: texts of models and visitors are data in it,
never markup. Its template is `assets/page/share/export.html`.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import asdict
from functools import cache
from html import escape

from app.components import ASSETS, to_json
from app.controls import POLICY_LABELS
from app.figures import LEAST_COST, UNITS, counted, dial, percent, significant, visible
from app.share.home import PAPER, TITLE
from app.stream.token_stream import token_row
from engine import Sampling, Trace, costs
from engine.events import llm_share, taken_back
from engine.events.trace import trace_adapter

ENDS = {
    "eos": "the text ended itself",
    "stop": "a stop string came up",
    "length": "the token limit was reached",
    "cancelled": "it was stopped",
}

MAX_LINK_TOKENS = 5_000
"""A longer text is not even tried: deflated, a token takes some eight bytes, and a link has room for 24,000."""

_DIGITS = 7  # of scores and ratios, as many as the browser is sent
_LOOKED_AT = {"probability", "seconds", "slm_alternatives", "llm_alternatives", "slm_entropy", "llm_entropy"}
_LEFT_OUT = {"__all__": {**dict.fromkeys(_LOOKED_AT, True), "taken_back": {"__all__": _LOOKED_AT}}}
"""Fields of tokens that a link leaves out, since they take four fifths of the room. A file has them."""

_DATA, _LIB, _HOME, _PAPER = "@@DATA@@", "@@LIB@@", "@@HOME@@", "@@PAPER@@"


def trace_json(trace: Trace, home: str = "") -> str:
    """The trace as `Trace.to_json` has it, with who made it.

    `home` is the project's address, empty where it is not known, here and below.
    """
    more = {"made_by": f"{TITLE}, {home}" if home else TITLE}
    return f"{json.dumps(more, ensure_ascii=False)[:-1]}, {trace.to_json()[1:]}"


def link_json(trace: Trace) -> str:
    """The trace as JSON that `Trace.from_json` reads, without defaults and candidates, and with few digits.

    Empty where it is far too long.
    """
    if len(trace.events) > MAX_LINK_TOKENS:
        return ""
    short = trace_adapter().dump_json(trace, exclude={"events": _LEFT_OUT}, exclude_defaults=True)
    return to_json(json.loads(short, parse_float=lambda digits: significant(float(digits), _DIGITS)))


def html_page(trace: Trace, home: str = "") -> str:
    """A self-contained HTML page: conversation, prompt, coloured tokens with all that is known, figures and settings.

    It loads nothing and lets nothing be loaded, and its script is the only one that may run in it.
    """
    content = {
        "turns": [asdict(turn) for turn in trace.turns],
        "prompt": trace.prompt,
        "system": trace.system,
        "summary": summary(trace),
        "facts": facts(trace),
        "ended": trace.finish_reason == "eos",
        "policy": trace.policy,
        "tokens": [token_row(event) for event in trace.events],
    }
    # ASCII: no encoding, line separator or byte order mark can be misread. `<` cannot end the script element.
    data = re.sub("[<>&]", lambda sign: f"\\u{ord(sign[0]):04x}", json.dumps(content, separators=(",", ":")))
    before, after = _page()
    made_by = f'<a href="{escape(home)}">{TITLE}</a>' if home else TITLE
    return f"{before.replace(_HOME, made_by)}{data}{after}"


def summary(trace: Trace) -> str:
    tokens = visible(trace.events)
    share = percent(llm_share(tokens))
    return f"{counted(len(tokens), 'token')}, {share} by the large model; {ENDS[trace.finish_reason]}"


def facts(trace: Trace) -> list[tuple[str, str]]:
    threshold, acceptance = (_dial(trace, name) for name in ("threshold", "acceptance"))
    back = taken_back(trace.events)
    always = [
        ("Small model", trace.slm),
        ("Large model", trace.llm),
        ("Router", trace.router or "none"),
        ("Scored by", POLICY_LABELS.get(trace.policy, trace.policy)),
        ("Threshold", threshold),
        ("Acceptance", acceptance),
        ("Sampling", _sampling(trace.sampling)),
        ("Seed", str(trace.seed)),
        ("New tokens", f"at most {trace.max_new_tokens:,}"),
        ("Prompt tokens", f"{trace.prompt_tokens:,}"),
        ("Cost", _cost(trace)),
        ("Prices", f"small model {trace.prices.slm:g}, large model {trace.prices.llm:g} per million tokens"),
    ]
    by_hand = sum(event.forced for event in trace.events)
    optional = [
        ("Prompt format", "raw completion, no chat format", trace.raw),
        ("Before the prompt", counted(len(trace.turns), "message"), trace.turns),
        ("Stop strings", ", ".join(json.dumps(text, ensure_ascii=False) for text in trace.stop), trace.stop),
        ("Chosen by hand", counted(by_hand, "token"), by_hand),
        ("Taken back", f"{counted(back, 'token')}, charged and not in the text", back),
        ("Draft at most", str(trace.max_draft), trace.max_draft != "auto"),
    ]
    return [*always, *((name, value) for name, value, there in optional if there)]


def _cost(trace: Trace) -> str:
    beside = costs(trace.events, trace.prompt_tokens, trace.slm_cost, trace.llm_cost, trace.prices)
    units = [(label, getattr(beside.run, unit), getattr(beside.llm_only, unit)) for unit, label in UNITS.items()]
    shares = [f"{percent(run / llm)} of the {label}" for label, run, llm in units if llm > LEAST_COST]
    return f"{', '.join(shares)} of the large model alone; seconds are modelled from measured passes"


def _dial(trace: Trace, name: str) -> str:
    values = sorted({getattr(event, name) for event in trace.events} or {getattr(trace, name)})
    return dial(values[0]) if len(values) == 1 else f"{dial(values[0])} to {dial(values[-1])}, changed while writing"


def _sampling(sampling: Sampling) -> str:
    drawn = f"temperature {sampling.temperature:g}" if sampling.temperature else "greedy"
    more = (
        (f"top-p {sampling.top_p:g}", sampling.temperature and sampling.top_p < 1),
        (f"top-k {sampling.top_k}", sampling.temperature and sampling.top_k),
        (f"repetition penalty {sampling.repetition_penalty:g}", sampling.repetition_penalty != 1),
    )
    return ", ".join([drawn, *(text for text, there in more if there)])


@cache
def _page() -> tuple[str, str]:
    """What comes before the data and after it; its policy allows the page's own style and script, by their hashes."""
    names = ("lib/dom.js", "lib/format.js", "lib/threshold.js", "stream/token.js", "conversation/turns.js")
    modules = "".join((ASSETS / name).read_text("utf-8") for name in names)
    functions = re.sub("^(export |import .*\n)", "", modules, flags=re.MULTILINE)
    page = (ASSETS / "share/export.html").read_text("utf-8").replace(_LIB, functions).replace(_PAPER, PAPER)
    for element in ("style", "script"):
        content = re.search(rf"<{element}>(.*?)</{element}>", page, re.DOTALL)
        assert content, f"export.html has no <{element}>"
        digest = base64.b64encode(hashlib.sha256(content[1].encode()).digest()).decode()
        page = page.replace(f"@@{element.upper()}@@", f"'sha256-{digest}'")
    before, after = page.split(_DATA)
    return before, after
