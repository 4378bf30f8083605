"""The model card beside a router, in Markdown.

Every figure in it comes from the router's own `router.json`, and from the curves that it is shipped with.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from engine.benchmark.markdown import table
from engine.files import write_text
from engine.operating_points import Curve, TimedSetting
from engine.router import RouterCard
from trainer.evaluation.estimates import in_points, is_surely_less, percent, with_notes
from trainer.evaluation.method_names import spelled_threshold
from trainer.evaluation.summary import BesideConfidence

METHODS = {
    "citer": "CITER (Zheng et al., COLM 2025): preferences from the shortcut and from rollouts",
    "citer-shortcut": "CITER (Zheng et al., COLM 2025) without rollouts: the shortcut's preferences alone",
    "co-llm": "Co-LLM style (Shen et al., ACL 2024): the likelihood of the reference under both models, no preferences",
    "kept": "for verified routing: whether the LLM will keep the SLM's token",
    "query": "query router, RouteLLM style (Ong et al., 2024): decides once, by the prompt's hidden state",
}
BAR = 40  # characters from 0 to 1
SHORTCUT = 'Teacher-forced on the reference. "SLM right" and "only LLM right" are the shortcut\'s preferences'
ABOUT_CASES = {
    "query": "The case of a question is whose answer is right; the LLM is preferred where only its own is.",
    "co-llm": f"{SHORTCUT}, with which this router is measured; it was trained without.",
    "kept": f"{SHORTCUT}, which this router does not learn from: below, the SLM is preferred where the LLM would write "
    "the same token.",
    "citer-shortcut": f'{SHORTCUT}; "neither" is not decided by them and was not trained on.',
}
MEASURED = "chosen on the measured curves (`operating_points.json`)"
ALL_MEASURED = "`operating_points.json` has all that was measured, and what made it."
NO_PREFERENCE = "This score is a weight of likelihoods and no estimate of a preference: only its order is meant.\n"
KEPT = "whether the LLM's likeliest token is the SLM's, on every token of the references"
REFERENCES = {"data": "the data set's", "llm": "the LLM's own answers"}

Beside = Mapping[str, Sequence[BesideConfidence]]
"""By task what is known of a router's measured points beside SLM confidence."""


def write_card(
    card: RouterCard,
    folder: Path,
    curves: Sequence[Curve] = (),
    beside: Beside | None = None,
    timed: Sequence[TimedSetting] = (),
    others: Beside | None = None,
) -> None:
    """Writes `README.md` into a router's folder; what follows the folder was measured of it, if it was."""
    write_text(folder / "README.md", render_card(card, curves, beside, timed, others))


def render_card(
    card: RouterCard,
    curves: Sequence[Curve] = (),
    beside: Beside | None = None,
    timed: Sequence[TimedSetting] = (),
    others: Beside | None = None,
) -> str:
    """The model card in Markdown, with the Hub's YAML header; `others` is as `beside`, of routers of other tasks."""
    start = given_at_start(card, curves, beside or {}, timed)
    given = f"\n## What it gives where it starts\n\n{start}\n\n{ALL_MEASURED}\n" if start else ""
    limits = "\n\n".join(filter(None, [_surely_worse(beside or {}), _of_other_tasks(others or {})]))
    given += f"\n## Where SLM confidence is the safer rule\n\n{limits}\n" if limits else ""
    metrics, unit = card.metrics, "question" if card.training["method"] == "query" else "token"
    counts = f"{metrics['questions']} questions the router never saw"
    counts += f", {metrics['tokens']:,} tokens." if unit == "token" else "."
    rows = "\n".join(f"| {name} | {text} |" for name, text in _rows(card, unit).items() if text)
    cases = "\n".join(f"| {name} | {share:.1%} |" for name, share in metrics["cases"].items())
    bins = "\n".join(_bin(each) for each in metrics["reliability"])
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
{made}{given}
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
{NO_PREFERENCE if card.training["method"] == "co-llm" else ""}
| {unit}s | share | mean score | SLM preferred | from 0 to 1 |
|---|---|---|---|---|
{bins}
"""


def given_at_start(
    card: RouterCard, curves: Sequence[Curve], beside: Beside, timed: Sequence[TimedSetting] = ()
) -> str:
    """What it gives where it starts, per task; empty where nothing was measured at that acceptance."""
    own = [curve for curve in curves if curve.acceptance == card.acceptance]
    if not own:
        return ""
    points = {curve.task: point for curve in own if (point := nearest_beside(curve, card.threshold, beside))}
    agreed = "".join(f" (of {curve.task} the agreement)" for curve in own if curve.quality != "right")
    head = ["right answers", "questions", "SLM only", "LLM only", "here", "LLM tokens", "bytes of LLM only"]
    rows = [_at_start(curve, card.threshold) for curve in own]
    seconds = {curve.task: _seconds(curve, card.threshold, timed) for curve in own}
    if any(seconds.values()):
        head.append("seconds of LLM only, measured")
        rows = [[*row, seconds[each.task]] for row, each in zip(rows, own, strict=True)]
    if points:
        head.append("beside SLM confidence at equal bytes")
        rows = [[*row, _beside(points.get(each.task), card.threshold)] for row, each in zip(rows, own, strict=True)]
    lead = (
        f"Threshold {card.threshold:g}, acceptance {card.acceptance:g}, in generated answers. What was not measured "
        "there is read on a straight line between the thresholds beside it; the last is the LLM alone."
    )
    lead += " Seconds are of the nearest threshold that was timed." if any(seconds.values()) else ""
    return "\n\n".join([lead, with_notes(table(head, rows)), *([_on_which_tasks(points, agreed)] if points else [])])


def _at_start(curve: Curve, threshold: float) -> list[str]:
    at = curve.at(threshold)
    size = curve.relative_cost(at, "bytes")
    found = (curve.slm.accuracy, curve.llm.accuracy, at.accuracy, at.llm_share, size)
    task = curve.task if curve.quality == "right" else f"{curve.task} (agreement with the LLM alone)"
    return [task, str(curve.questions), *(f"{value:.1%}" for value in found)]


def _seconds(curve: Curve, threshold: float, timed: Sequence[TimedSetting]) -> str:
    """Of the router's setting nearest to a threshold that was timed on the task; empty where none was."""
    dials = "router", curve.task, curve.acceptance, curve.max_draft or "auto"
    there = (each for each in timed if (each.policy, each.task, each.acceptance, each.max_draft) == dials)
    own = min(there, key=lambda each: abs(each.threshold - threshold), default=None)
    return _at(f"{percent(own.times)} ({own.questions} questions)", own.threshold, threshold) if own else ""


def _at(text: str, threshold: float, start: float) -> str:
    """With the threshold at which it was measured, where that is not the start."""
    return text if round(threshold, 4) == start else f"{text}, at threshold {spelled_threshold(threshold)}"


def nearest_beside(curve: Curve, threshold: float, beside: Beside) -> BesideConfidence | None:
    """Of what is known of a curve's measured points, that of the one nearest to a threshold."""
    dials = curve.acceptance, curve.max_draft or "auto"
    own = [each for each in beside.get(curve.task, ()) if (each["acceptance"], each["max_draft"]) == dials]
    return min(own, key=lambda each: abs(each["threshold"] - threshold), default=None)


def is_surely_worse(point: BesideConfidence | None) -> bool:
    """Whether its whole interval is below what SLM confidence has; not where that is not known."""
    return point is not None and is_surely_less(point["accuracy"])


def _beside(point: BesideConfidence | None, start: float) -> str:
    if point is None:
        return ""
    accuracy, threshold = point["accuracy"], point["threshold"]
    return _at(in_points(accuracy), threshold, start)


def _on_which_tasks(points: Mapping[str, BesideConfidence], agreed: str) -> str:
    """What the last column is, and on which tasks its whole interval is below 0; `agreed` on what has no accuracy."""
    worse = [task for task, point in points.items() if is_surely_worse(point)]
    return (
        f"In the last column is the accuracy{agreed} at the measured threshold nearest to the start, less what SLM "
        "confidence has at acceptance 0 for as many bytes (a straight line between its measured points), with 95 % "
        "intervals paired over the questions. By the whole interval it is worse on "
        f"{', '.join(worse) or 'none of them'}."
    )


def _surely_worse(beside: Beside) -> str:
    """In words: at how many of its measured settings it is surely worse than SLM confidence; empty without any."""
    known = [
        (task, each) for task, several in beside.items() for each in several if each["accuracy"]["value"] is not None
    ]
    if not known:
        return ""
    worse = [
        f"{task} at {spelled_threshold(each['threshold'])}, acceptance {each['acceptance']:g} "
        f"({in_points(each['accuracy'])})"
        for task, each in known
        if is_surely_worse(each)
    ]
    return (
        f"Of the {len(known)} settings at which SLM confidence can move as many bytes, this router is at {len(worse)} "
        f"worse by the whole 95 % interval{': ' if worse else ''}{'; '.join(worse)}."
    )


def _of_other_tasks(others: Beside) -> str:
    """In words: what routers that learned from the other tasks alone are worth on each; empty where none was tried."""
    found = [(task, each["accuracy"]) for task, several in others.items() for each in several]
    if not found:
        return ""
    known = "; on ".join(f"{task} {in_points(accuracy)}" for task, accuracy in found if accuracy["value"] is not None)
    cheaper = ", ".join(task for task, accuracy in found if accuracy["value"] is None)
    return " ".join(
        [
            "On a task that it did not learn from it was not tried; routers of the other tasks were.",
            *([f"Less what SLM confidence has right at acceptance 0 for as many bytes: on {known}."] if known else []),
            *([f"On {cheaper} they moved fewer bytes than SLM confidence at any threshold."] if cheaper else []),
        ]
    )


def _rows(card: RouterCard, unit: str) -> dict[str, str]:
    """What is stated of the router and its training; what is empty does not apply to it."""
    training = card.training
    of_tokens = unit == "token"
    width = training["width"] or card.hidden_size
    logit_features = " + 8 logit features" if card.logit_features else ""
    skip = ", and a linear score of the logit features" if training.get("skip") else ""
    which = ", the wrong ones too" if training["wrong_references"] else ", where they are right"
    separates = card.threshold == training["best_threshold"]
    return {
        "method": METHODS[training["method"]],
        "target": KEPT if training.get("target") == "kept" else "",
        "input": f"{card.hidden_size} hidden state{logit_features} of the SLM, {training['quantisation']}",
        "network": f"{width * 2} → {width} → 1, dropout {card.dropout}, weight decay {training['weight_decay']}{skip}",
        "references": REFERENCES[training["reference"]] + which * (training["reference"] == "llm" and of_tokens),
        "rollouts": _rollouts(training) if training["method"].startswith("citer") else "",
        "questions": _splits(training["questions"], "d"),
        "decided tokens": _splits(training["tokens"], ",") if of_tokens else "",
        "learned from": f"{training['learned_from']:,} tokens, decided or not" if "learned_from" in training else "",
        "data": f"SHA-256 {training['data'][:12]}…",
        "class balance": f"SLM preferred in {card.metrics['preferred_slm']:.1%} held out; {_balance(training)}",
        "calibration": _calibration(training.get("calibration")),
        "starting threshold": f"{spelled_threshold(card.threshold)}, "
        + ("which separates the preferences of the early-stopping questions best" if separates else MEASURED),
        "starting acceptance": f"{card.acceptance:g}" if card.acceptance else "",
        "seed": str(training["seed"]),
    }


def _splits(counts: dict[str, int], form: str) -> str:
    train, stop, test = (format(counts[name], form) for name in ("train", "stop", "test"))
    return f"{train} training, {stop} early stopping, {test} held out"


def _rollouts(training: dict[str, Any]) -> str:
    folders = training["rollouts"]
    if not folders:
        return "none"
    folders = [folders] if isinstance(folders, dict) else folders  # as cards had it when there was only ever one
    number = "" if training["round"] is None else f"round {training['round']}: "
    text = number + "<br>".join(_outcomes(done, training["cost_weight"]) for done in folders)
    text += "<br>Weighted by candidates / rolled-out tokens of the question"
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


def _calibration(tried: dict[str, Any] | None) -> str:
    if tried is None:
        return "none"
    losses = f"loss {tried['loss_before']:.4f} → {tried['loss_after']:.4f}, cross-validated by stopping question"
    if not tried["kept"]:
        return f"none: slope and bias were tried and did not help ({losses})"
    return f"logit × {tried['slope']:.3f} {tried['bias']:+.3f}, part of the last layer ({losses})"


def _about_cases(card: RouterCard) -> str:
    if text := ABOUT_CASES.get(card.training["method"]):
        return text
    own = card.training["reference"] == "llm"
    cases = '"only LLM right" and "neither"' if own else '"neither"'
    others = "by the shortcut, at less weight" if own and card.training.get("shortcut_weight") else "not decided"
    return (
        f"Teacher-forced on the reference. Tokens of the case {cases} are decided by rollouts; those that were not "
        f"rolled out are {others}."
    )


def _bin(each: dict[str, Any]) -> str:
    """A row of the reliability diagram: a bar as long as the observed rate, and a mark at the mean score."""
    cells = ["█" if cell < round(BAR * each["observed"]) else "·" for cell in range(BAR + 1)]
    cells[round(BAR * each["score"])] = "┃"
    figures = f"| {each['tokens']:,} | {each['share']:.1%} | {each['score']:.3f} | {each['observed']:.3f}"
    return f"{figures} | `{''.join(cells)}` |"
