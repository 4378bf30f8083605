"""The model card beside a router, in Markdown: which pair it fits, what it learned from, and where it starts.

Its figures come from the router's own `router.json`, and from the curves that it is shipped with.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from engine.bench.markdown import table
from engine.models.files import write_text
from engine.operating_points import Curve
from engine.router import RouterCard

METHODS = {
    "citer": "CITER (Zheng et al., COLM 2025): preferences from the shortcut and from rollouts",
    "citer-shortcut": "CITER (Zheng et al., COLM 2025) without rollouts: the shortcut's preferences alone",
    "co-llm": "Co-LLM style (Shen et al., ACL 2024): the likelihood of the reference under both models, no preferences",
    "query": "query router, RouteLLM style (Ong et al., 2024): decides once, by the prompt's hidden state",
}
REFERENCES = {"data": "the data set's", "llm": "the LLM's own answers"}


def write_card(card: RouterCard, folder: Path, curves: Sequence[Curve] = ()) -> None:
    """Writes `README.md` into a router's folder, with the Hub's YAML header; `curves` were measured of the router."""
    training, metrics = card.training, card.metrics
    unit = "answer" if training["method"] == "query" else "next token"
    width, features = training["width"] or card.hidden_size, " + 8 logit features" * card.logit_features
    skip = ", and a linear score of the logit features" * bool(training.get("skip"))
    rolled_out = [f"{each['tokens']:,}, finished by {each['policy']}" for each in training["rollouts"]]
    questions, tokens = (
        f"{training[name]['train']:,} to learn from, {training[name]['stop']:,} to stop early, "
        f"{training[name]['test']:,} held out"
        for name in ("questions", "tokens")
    )
    rows = {
        "method": METHODS.get(training["method"]) or str(training["method"]),
        "pair": f"{card.slm} ⇄ {card.llm}, {training['quantisation']}, tokenizer {card.tokenizer[:12]}…",
        "network": f"{card.hidden_size} of the SLM's hidden state{features} → {width * 2} → {width} → 1{skip}; dropout "
        f"{card.dropout}, weight decay {training['weight_decay']}",
        "starts at": f"router < {card.threshold:.4g}" + (f" @ {card.acceptance:g}" if card.acceptance else ""),
        "references": REFERENCES[training["reference"]],
        "rolled-out tokens": "<br>".join(rolled_out),
        "questions": questions,
        "decided tokens": tokens,
        "held out": f"AUC {metrics['auc']:.3f} against the preference (the SLM's top probability has "
        f"{metrics['auc_top_probability']:.3f}), SLM preferred in {metrics['preferred_slm']:.1%}",
    }
    command = training.get("command")
    text = f"""---
license: apache-2.0
library_name: citer-playground
tags: [router, token-level-routing, citer]
---

# Router `{card.name}`

{card.description}

Scores how safe it is to let **{card.slm}** write the {unit} instead of
**{card.llm}**. {card.polarity[0].upper()}{card.polarity[1:]}.

{table(["", ""], [[name, text] for name, text in rows.items() if text])}
"""
    text += f"\nMade by\n\n```\n{command}\n```\n" if command else ""
    write_text(folder / "README.md", text + _at_start(card, curves))


def _at_start(card: RouterCard, curves: Sequence[Curve]) -> str:
    """What was measured of it at its start, a row for each task."""
    rows = []
    for curve in (curve for curve in curves if curve.points and curve.acceptance == card.acceptance):
        at = min(curve.points, key=lambda point: abs(point.threshold - card.threshold))  # the card's is rounded
        task = curve.task if curve.quality == "right" else f"{curve.task} (agreement with the LLM alone)"
        figures = (curve.slm.accuracy, curve.llm.accuracy, at.accuracy, at.llm_share, at.bytes / (curve.llm.bytes or 1))
        rows.append([task, str(curve.questions), *(f"{each:.1%}" for each in figures)])
    if not rows:
        return ""
    head = ["right answers", "questions", "SLM only", "LLM only", "here", "LLM tokens", "bytes of LLM only"]
    file = "`operating_points.json` has all that was measured."
    return f"\n## What it gives where it starts\n\n{table(head, rows)}\n\n{file}\n"
