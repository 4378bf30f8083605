"""The model card beside a router, in Markdown: which pair it fits, what it learned from, and where it starts.

Every figure in it comes from the router's own `router.json`, and from the curves that it is shipped with.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

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
    unit = "answer" if card.training["method"] == "query" else "next token"
    rows = "\n".join(f"| {name} | {text} |" for name, text in _rows(card).items() if text)
    command = card.training.get("command")
    made = f"\nMade by\n\n```\n{command}\n```\n" if command else ""
    text = f"""---
license: apache-2.0
library_name: citer-playground
tags: [router, token-level-routing, citer]
---

# Router `{card.name}`

{card.description}

Scores how safe it is to let **{card.slm}** write the {unit} instead of
**{card.llm}**. {card.polarity[0].upper()}{card.polarity[1:]}.

| | |
|---|---|
{rows}
{made}{_at_start(card, curves)}"""
    write_text(folder / "README.md", text)


def _rows(card: RouterCard) -> dict[str, str]:
    """What is stated of the router and its training; what is empty does not apply to it."""
    training, metrics = card.training, card.metrics
    width = training["width"] or card.hidden_size
    logit_features = " + 8 logit features" if card.logit_features else ""
    skip = ", and a linear score of the logit features" if training.get("skip") else ""
    return {
        "method": METHODS.get(training["method"]) or str(training["method"]),
        "pair": f"{card.slm} ⇄ {card.llm}, {training['quantisation']}, tokenizer {card.tokenizer[:12]}…",
        "input": f"{card.hidden_size} hidden state{logit_features} of the SLM's last layer",
        "network": f"{width * 2} → {width} → 1, dropout {card.dropout}, weight decay {training['weight_decay']}{skip}",
        "starts at": f"router < {card.threshold:.4g}" + (f" @ {card.acceptance:g}" if card.acceptance else ""),
        "references": REFERENCES[training["reference"]],
        "rollouts": "<br>".join(map(_rolled_out, training["rollouts"])),
        "questions": _splits(training["questions"]),
        "decided tokens": _splits(training["tokens"]),
        "data": f"SHA-256 {training['data'][:12]}…",
        "held out": f"AUC {metrics['auc']:.3f} against the preference (the SLM's top probability has "
        f"{metrics['auc_top_probability']:.3f}), expected calibration error {metrics['ece']:.3f}, SLM preferred in "
        f"{metrics['preferred_slm']:.1%}",
        "seed": str(training["seed"]),
    }


def _splits(counts: dict[str, int]) -> str:
    return f"{counts['train']:,} training, {counts['stop']:,} early stopping, {counts['test']:,} held out"


def _rolled_out(done: dict[str, Any]) -> str:
    writer = "the SLM alone" if done["policy"] == "slm" else f"router `{done['policy']}` at {done['threshold']:.2f}"
    return f"{done['tokens']:,} tokens, finished by {writer}"


def _at_start(card: RouterCard, curves: Sequence[Curve]) -> str:
    """What was measured of it at its start, a row for each task."""
    own = [curve for curve in curves if curve.acceptance == card.acceptance]
    if not own:
        return ""
    table = [
        "| right answers | questions | SLM only | LLM only | here | LLM tokens | bytes of LLM only |",
        "|---" * 7 + "|",
    ]
    for curve in own:
        at = curve.at(card.threshold)
        task = curve.task if curve.quality == "right" else f"{curve.task} (agreement with the LLM alone)"
        figures = (curve.slm.accuracy, curve.llm.accuracy, at.accuracy, at.llm_share, at.bytes / (curve.llm.bytes or 1))
        table.append(f"| {task} | {curve.questions} | {' | '.join(f'{each:.1%}' for each in figures)} |")
    rows = "\n".join(table)
    return f"\n## What it gives where it starts\n\n{rows}\n\n`operating_points.json` has all that was measured.\n"
