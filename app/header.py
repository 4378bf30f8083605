"""The page's first line: what it is, the models behind it, loading progress and warnings; every text is escaped."""

from __future__ import annotations

import re
from html import escape
from typing import Any

from app.figures import pair_name
from app.running.host import Host, Status
from app.share.home import PAPER
from engine.models.sources import PRESETS, base_title

_SIZE = re.compile(r"\d+(?:\.\d+)?[BM]\b")  # of a model, in its name


def header_html(host: Host, home: str = "") -> str:
    """The line as it stands now; `home` is the project's, empty where it is not known."""
    status, pair = host.status, host.pair
    loaded = status.phase == "ready" and pair is not None
    line = "" if loaded else _loading(status)
    about = _about(pair, home) if loaded else f'<span class="loads" role="status">{line}</span>'
    warnings = "".join(f'<p class="warning" role="alert">{escape(text)}</p>' for text in _warnings(host))
    return f'<div class="brand"><h1>{_sentence(pair)}</h1>{about}</div>{warnings}'


def _sentence(pair: Any) -> str:
    sizes = [_SIZE.search(name) for name in (pair.slm_name, pair.llm_name)] if pair is not None else [None, None]
    small, large = (f" ({escape(found[0])})" if found else "" for found in sizes)
    you = "<span>You set how much the large one writes.</span>"
    return f"A small model{small} and a large one{large} write one text. {you}"


def _about(pair: Any, home: str) -> str:
    """The models' details, behind their name."""
    router = "no router"
    if pair.router is not None:
        about = f" ({escape(pair.router.card.description)})" if pair.router.card.description else ""
        router = f"router {escape(pair.router.name)}{about}"
    repository = _link(home, "Space" if "//huggingface.co/spaces/" in home else "Repository") if home else ""
    lines = [
        _names(pair),
        f"{escape(pair.quantisation)}, {escape(pair.device)}",
        router,
        f"{repository} {_link(PAPER, 'Paper')}",
    ]
    return f'<details class="models menu"><summary>models</summary><p>{"<br>".join(lines)}</p></details>'


def _names(pair: Any) -> str:
    """Both models' names; those that the Hub has link to their pages."""
    first, _, second = pair_name(pair.slm_name, pair.llm_name).partition(" ⇄ ")
    preset = PRESETS.get(pair.preset)
    sources = (preset.slm, preset.llm) if preset else (None, None)
    parts = []
    for title, text, source in zip((pair.slm_name, pair.llm_name), (first, second), sources, strict=True):
        # Else the preset names other models than the pair has.
        known = source is not None and base_title(title) == source.title
        repo = source.hub_repo if source is not None and known else ""
        parts.append(_link(f"https://huggingface.co/{repo}", text, title) if repo else escape(text))
    return " ⇄ ".join(parts)


def _link(address: str, text: str, name: str = "") -> str:
    label = f' aria-label="{escape(name)}"' if name and name != text else ""
    return f'<a href="{escape(address)}" target="_blank" rel="noopener"{label}>{escape(text)}</a>'


def _warnings(host: Host) -> list[str]:
    router = getattr(host.pair, "router", None)
    texts = [host.status.error, host.status.warning, getattr(router, "warning", None)]
    if host.pair and router is None:
        texts.append("No router belongs to this pair, so the small model's confidence decides.")
    return [text for text in texts if text]


def _loading(status: Status) -> str:
    return "No models" if status.phase == "failed" else escape(status.progress[:1].upper() + status.progress[1:])
