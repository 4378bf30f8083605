"""The model card beside a router: its own JSON card, told to people. Every figure comes from `router.json`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from engine.router import RouterCard

METHODS = {
    "citer": "CITER (Zheng et al., COLM 2025): preferences from the shortcut and from rollouts",
    "citer-shortcut": "CITER (Zheng et al., COLM 2025) without rollouts: the shortcut's preferences alone",
    "co-llm": "Co-LLM style (Shen et al., ACL 2024): the likelihood of the reference under both models, no preferences",
    "query": "query router, RouteLLM style (Ong et al., 2024): decides once, by the prompt's hidden state",
}
BAR = 40  # characters from 0 to 1
REFERENCES = {"data": "the data set's", "llm": "the LLM's own answers"}


def write_card(card: RouterCard, folder: Path) -> None:
    """Writes `README.md` into a router's folder."""
    (folder / "README.md").write_text(render_card(card), encoding="utf-8")


def render_card(card: RouterCard) -> str:
    """The model card in Markdown, with the Hub's YAML header."""
    metrics, unit = card.metrics, "question" if card.training["method"] == "query" else "token"
    counts = f"{metrics['questions']} questions the router never saw"
    counts += f", {metrics['tokens']:,} tokens." if unit == "token" else "."
    rows = "\n".join(f"| {name} | {text} |" for name, text in _rows(card, unit))
    cases = "\n".join(f"| {name} | {share:.1%} |" for name, share in metrics["cases"].items())
    command = card.training.get("command")
    made = f"\nMade by\n\n```\n{command}\n```\n" if command else ""
    return f"""---
license: apache-2.0
library_name: citer-playground
tags: [router, token-level-routing, citer]
---

# Router `{card.name}`

{card.description}

Scores how safe it is to let **{card.slm}** write the {"next token" if unit == "token" else "answer"} instead of
**{card.llm}**. {card.polarity[0].upper()}{card.polarity[1:]}.

| | |
|---|---|
{rows}
{made}
## On the held-out questions

{counts}

| ranking of {unit}s by | AUC against the preference |
|---|---|
| this router's score | {metrics["auc"]:.3f} |
| the SLM's top probability | {metrics["auc_top_probability"]:.3f} |

| case | share of {unit}s |
|---|---|
{cases}

{_about_cases(card)}
What the score is worth in generated answers is another question, which these figures do not settle.

## Is the score a probability?

Expected calibration error {metrics["ece"]:.3f}, on the held-out {unit}s with a preference. The bins are of equal
weight, since scores crowd together; a score that is a probability has the same figure in both columns, and in the
diagram its mark (the mean score) at the end of the bar (how often the SLM is preferred).
{_about_score(card)}
| {unit}s | share | mean score | SLM preferred | from 0 to 1 |
|---|---|---|---|---|
{_reliability(metrics["reliability"])}
"""


def _rows(card: RouterCard, unit: str) -> Iterator[tuple[str, str]]:
    """What is stated of the router and its training, line by line."""
    training = card.training
    questions, counts = training["questions"], training["tokens"]
    width = training["width"] or card.hidden_size
    inputs = f"{card.hidden_size} hidden state" + (" + 8 logit features" if card.logit_features else "")
    yield "method", METHODS[training["method"]]
    yield "input", f"{inputs} of the SLM, {training['quantisation']}"
    skip = ", and a linear score of the logit features" if training.get("skip") else ""
    yield "network", f"{width * 2} → {width} → 1, dropout {card.dropout}, weight decay {training['weight_decay']}{skip}"
    yield "references", REFERENCES[training["reference"]] + _wrong(training, unit)
    if training["method"].startswith("citer"):
        yield "rollouts", _rollouts(training)
    yield (
        "questions",
        f"{questions['train']} training, {questions['stop']} early stopping, {questions['test']} held out",
    )
    if unit == "token":
        yield (
            "decided tokens",
            f"{counts['train']:,} training, {counts['stop']:,} early stopping, {counts['test']:,} held out",
        )
    if "learned_from" in training:
        yield "learned from", f"{training['learned_from']:,} tokens, decided or not"
    yield "data", f"SHA-256 {training['data'][:12]}…"
    yield "class balance", f"SLM preferred in {card.metrics['preferred_slm']:.1%} held out; {_balance(training)}"
    yield "calibration", _calibration(training)
    yield "starting threshold", f"{card.threshold:.3g}, {_threshold(card)}"
    yield "seed", str(training["seed"])


def _wrong(training: dict[str, Any], unit: str) -> str:
    if training["reference"] == "data" or unit == "question":
        return ""
    return ", the wrong ones too" if training["wrong_references"] else ", the right ones"


def _rollouts(training: dict[str, Any]) -> str:
    folders = training["rollouts"]
    if not folders:
        return "none"
    folders = [folders] if isinstance(folders, dict) else folders  # as cards had it when there was only ever one
    number = "" if training["round"] is None else f"round {training['round']}: "
    text = number + "; ".join(_outcomes(done, training["cost_weight"]) for done in folders)
    text += "; weighted by candidates / rolled-out tokens of the question"
    kept = training.get("shortcut_weight")
    return text + (f"; what was not rolled out keeps the shortcut's preference at weight {kept:g}" if kept else "")


def _outcomes(done: dict[str, Any], cost_weight: float) -> str:
    writer = "the SLM alone" if done["policy"] == "slm" else f"router `{done['policy']}` at {done['threshold']:.2f}"
    text = f"finished by {writer}, at most {done['budget']} tokens per question, {done['tokens']:,} in all"
    if done["tokens"]:
        text += f"; the answer was right after {done['slm_right']:.1%} of the SLM's tokens"
        if done["llm_right"] is not None:
            text += f" and {done['llm_right']:.1%} of the LLM's"
        text += f"; SLM preferred in {done['preferred_slm']:.1%} (λ = {cost_weight:g})"
    return text


def _balance(training: dict[str, Any]) -> str:
    factors = training.get("class_factors")
    if training["class_balance"] == "none" or factors is None:
        return "no class weights"
    rarer = max(factors, key=lambda name: factors[name])
    return f"{rarer.upper()}'s weighed {factors[rarer]:.2f} times in training, and the logit corrected by the logarithm"


def _calibration(training: dict[str, Any]) -> str:
    tried = training.get("calibration")
    if tried is None:
        return "none"
    losses = f"loss {tried['loss_before']:.4f} → {tried['loss_after']:.4f}, cross-validated by stopping question"
    if not tried["kept"]:
        return f"none: slope and bias were tried and did not help ({losses})"
    return f"logit × {tried['slope']:.3f} {tried['bias']:+.3f}, part of the last layer ({losses})"


def _threshold(card: RouterCard) -> str:
    if card.threshold == card.training["best_threshold"]:
        return "which separates the preferences of the early-stopping questions best"
    return "chosen on the measured curve (`operating_points.json`)"


def _about_cases(card: RouterCard) -> str:
    method = card.training["method"]
    if method == "query":
        return "The case of a question is whose answer is right; the LLM is preferred where only its own is."
    text = 'Teacher-forced on the reference. "SLM right" and "only LLM right" are the shortcut\'s preferences'
    if method == "co-llm":
        return f"{text}, with which this router is measured; it was trained without."
    if method == "citer-shortcut":
        return f'{text}; "neither" is not decided by them and was not trained on.'
    cases = '"neither"' if card.training["reference"] == "data" else '"only LLM right" and "neither"'
    others = "by the shortcut, at less weight" if card.training.get("shortcut_weight") else "not decided"
    return (
        f"Teacher-forced on the reference. Tokens of the case {cases} are decided by rollouts; those that were not "
        f"rolled out are {others}."
    )


def _about_score(card: RouterCard) -> str:
    if card.training["method"] != "co-llm":
        return ""
    return "This score is a weight of likelihoods and no estimate of a preference: only its order is meant.\n"


def _reliability(table: list[dict[str, Any]]) -> str:
    return "\n".join(
        f"| {each['tokens']:,} | {each['share']:.1%} | {each['score']:.3f} | {each['observed']:.3f} "
        f"| `{_bar(each['score'], each['observed'])}` |"
        for each in table
    )


def _bar(score: float, observed: float) -> str:
    """A row of the reliability diagram: a bar as long as the observed rate, and a mark at the mean score."""
    cells = ["█" if cell < round(BAR * observed) else "·" for cell in range(BAR + 1)]
    cells[round(BAR * score)] = "┃"
    return "".join(cells)
