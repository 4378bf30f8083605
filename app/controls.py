"""What a visitor can set, as gradio components: labels, ranges and starting values; the engine says what is valid.

Where the router was measured, its threshold has two more handles: LLM share and cost weight λ, the same choice in other
units. `assets/page/points/points.js` draws them and moves them along the measured curve, of which it is sent a message.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import gradio as gr

from app.components import ASSETS, drawn, to_json
from app.figures import UNITS, counted, machines, reading_along, whole_percent
from engine import DEFAULT_THRESHOLD, POLICIES, Settings
from engine.operating_points import (
    HARDLY_WORSE,
    LLM_ONLY,
    MEASURED_UNITS,
    Curve,
    OperatingPoint,
    OperatingPoints,
    TimedSetting,
)
from engine.policy import REGISTRY

POLICY_LABELS = {name: REGISTRY[name].label for name in POLICIES}

THRESHOLD_DIGITS = 7
"""Of the threshold's steps, as many as the scores have that are sent: half of a text's may lie above 0.9997."""

DRAFT_INFO = (
    "Tokens before the LLM reads them, where it is to accept them. Changes the cost, never the text: long drafts can "
    "take longer than the LLM alone."
)

_KEYS = "Enter sends, Shift + Enter breaks the line, Esc stops."
_TINY_KNOWS = "The tiny pair has learned short sums like these, what came and what went, and nothing else."


class _Task(NamedTuple):
    name: str
    questions: str


_TASKS = {
    "csqa": _Task("CommonsenseQA", "everyday questions with five choices each"),
    "gsm8k": _Task("GSM8K", "arithmetic told as a story, answered step by step"),
    "arc-challenge": _Task("ARC-Challenge", "science questions with choices"),
    "mmlu-psychology": _Task("MMLU psychology", "questions of professional psychology with four choices each"),
    # Another router's may be of all levels, so the name is for both.
    "math": _Task(
        "MATH",
        "problems of mathematics competitions; those of the router that comes with the page are of levels 1 to 3",
    ),
    "arithmetic": _Task("arithmetic", "made-up sums, as the tiny pair has learned them"),
    "free-text": _Task(
        "text of any kind", "code, explanations and other things that people ask; the router learned from none of them"
    ),
}
"""What the tasks that routers were measured on are called, and what they are; those of others have their own name."""
_QUALITIES = {"right": "right", "same": "of the LLM’s text"}
_OF_YOURS = {"right": "It says nothing of your text.", "same": "Yours may differ."}


class Knob(gr.Slider):
    """A slider whose value is checked by the engine, so that page and API refuse with the same words."""

    is_template = True  # drawn by gradio's slider

    def preprocess(self, payload: float) -> float:
        """The value as it came."""
        return payload


def knob(minimum: float, maximum: float, value: float, **options: Any) -> Knob:
    """A slider without gradio's reset button, which changes the value without an event."""
    return Knob(minimum, maximum, value, buttons=[], **options)


def fill(components: Mapping[str, Any], values: Mapping[str, Any]) -> list[Any]:
    """Updates that fill in the page's fields, by name; those without a value stay as they are."""

    def filled(field: Any, value: Any) -> Any:
        if isinstance(field, Knob):  # the engine accepts more than the slider's range
            return gr.update(value=value, minimum=min(field.minimum, value), maximum=max(field.maximum, value))
        return gr.update(value=value)

    return [filled(field, values[name]) if name in values else gr.skip() for name, field in components.items()]


def threshold_knob(settings: Settings, elem_id: str, start: float = DEFAULT_THRESHOLD, digits: int = 4) -> Knob:
    """A dial from SLM-only to LLM-only in steps of so many digits, from where the settings say, else from `start`."""
    value = start if settings.threshold is None else settings.threshold
    return knob(0, max(LLM_ONLY, value), value, step=10**-digits, label="Threshold", elem_id=elem_id)


def acceptance_knob(settings: Settings, elem_id: str) -> Knob:
    """A dial from all that the SLM wrote to only what the LLM would have written."""
    return knob(0, 1, settings.acceptance or 0.0, step=0.01, label="Acceptance", elem_id=elem_id)


def scoring_choices(policies: Iterable[str]) -> list[tuple[str, str]]:
    """The policies to which a threshold means something, as (label, value)."""
    return [(POLICY_LABELS[name], name) for name in policies if REGISTRY[name].scores]


def scoring_policy(settings: Settings) -> str:
    """The policy of the settings, or the router where that one scores nothing."""
    return settings.policy if REGISTRY[settings.policy].scores else "router"


def policy_update(choices: list[tuple[str, str]], chosen: str) -> Any:
    """The choices that the loaded models leave; where the chosen one is not among them, the SLM's confidence is.

    A value that is among them is not sent: by now the visitor, or a link, may have chosen another.
    """
    if chosen in [name for _, name in choices]:
        return gr.update(choices=choices)
    return gr.update(choices=choices, value="confidence")


def prompt_box(label: str, elem_id: str) -> gr.Textbox:
    """Where a prompt is written, and by which keys (`assets/page/lib/keys.js`); its label is for screen readers."""
    box = gr.Textbox(
        label=label,
        lines=2,
        max_lines=8,
        placeholder="Ask for something.",
        elem_id=elem_id,
        container=False,
        show_label=False,
    )
    gr.HTML(f'<p class="prompt-hint prompt-keys">{_KEYS}</p>', apply_default_css=False)
    return box


def prompt_card(preset: str | None) -> tuple[gr.Textbox, gr.Button, gr.Button, dict[str, gr.Row]]:
    """Prompt, Generate, Stop, and per preset its row of examples, of which the one is seen that will be loaded."""
    with gr.Column(elem_id="prompt-card", elem_classes="card"):
        text = prompt_box("Prompt", "prompt")
        with gr.Row(elem_id="actions"):
            prompts = json.loads((ASSETS / "examples.json").read_text("utf-8"))
            seen = "tiny" if preset == "tiny" else "cpu"
            examples = {name: _examples(name, rows, text, name == seen) for name, rows in prompts.items()}
            generate = gr.Button("Generate", variant="primary", elem_id="generate", min_width=112, scale=0)
            stop = gr.Button("Stop", interactive=False, elem_id="stop", min_width=80, scale=0)
    return text, generate, stop, examples


def dials_card(settings: Settings, start: float) -> tuple[Knob, Knob, gr.HTML, gr.HTML, gr.Dropdown]:
    """Threshold and acceptance, what they mean and cost (see `top_message`, `points_message`), and what scores.

    Of gradio's slider for the threshold only the number is seen: the track below it is spaced by the text's scores.
    What says what they mean has an event `commit`: a hand that moved the dials has let them go.
    """
    with gr.Column(elem_id="threshold-card", elem_classes="card"):
        threshold = threshold_knob(settings, "threshold", start, THRESHOLD_DIGITS)
        drawn("points/track", "track")
        acceptance = acceptance_knob(settings, "acceptance")
        _ends("keeps all that the SLM wrote", "only what the LLM would have written")
        says = drawn("points/acceptance", "acceptance-says", events=("commit",))
        points = drawn("points/points", "points")
        policy = gr.Dropdown(
            [(POLICY_LABELS[name], name) for name in POLICIES],
            value=settings.policy,
            label="Scored by",
            filterable=False,
            elem_id="policy",
        )
        gr.HTML((ASSETS / "guide/glossary.html").read_text("utf-8"), apply_default_css=False, elem_id="glossary")
    return threshold, acceptance, says, points, policy


def _ends(*words: str) -> None:
    """What the ends of the slider above mean."""
    spans = "".join(f"<span>{word}</span>" for word in words)
    gr.HTML(f'<div class="ends">{spans}</div>', apply_default_css=False, elem_classes="ends-block")


def view_card(settings: Settings) -> list[Any]:
    """The unit of cost, the SLM's price and the LLM's."""
    with gr.Column(elem_id="view-card", elem_classes="card"):
        unit = gr.Radio(
            [(label, name) for name, label in UNITS.items()], value="bytes", label="Cost in", elem_id="unit"
        )
        prices = [
            knob(0, max(top, value), value, step=step, label=f"{name} price", elem_id=f"{name.lower()}-price")
            for name, value, top, step in (
                ("SLM", settings.price.slm, 2.0, 0.01),
                ("LLM", settings.price.llm, 10.0, 0.05),
            )
        ]
        gr.HTML('<p id="price-note">per million tokens, in any currency</p>', apply_default_css=False)
    return [unit, *prices]


def sampling_card(settings: Settings) -> list[Any]:
    """Everything else that shapes a text, folded away, in the order of `app.fields.page_request`."""
    with gr.Accordion("Sampling and prompt format", open=False, elem_id="sampling-card", elem_classes="card"):
        temperature = knob(0, 2, 0, step=0.05, label="Temperature")
        top_p = knob(0.05, 1, 1, step=0.05, label="Top-p")
        with gr.Row():
            top_k = gr.Number(0, label="Top-k (0: all)", min_width=96)
            penalty = gr.Number(1.0, label="Repetition penalty", step=0.05, min_width=96)
        with gr.Row():
            limit = gr.Number(settings.max_new_tokens, label="New tokens", min_width=96, elem_id="max-new-tokens")
            seed = gr.Number(0, label="Seed", min_width=96)
        system = gr.Textbox(label="System prompt", lines=1, max_lines=4, placeholder="the model's own default")
        stop = gr.Textbox(label="Stop strings", lines=1, max_lines=4, placeholder=r"one per line; \n is a newline")
        raw = gr.Checkbox(label="Raw completion, no chat format", elem_id="raw")
        start = 0 if settings.max_draft == "auto" else settings.max_draft
        draft = gr.Number(start, label="Draft at most (0: auto)", elem_id="max-draft", info=DRAFT_INFO)
    return [system, raw, temperature, top_p, top_k, penalty, seed, limit, stop, draft]


def _examples(preset: str, rows: list[dict[str, str]], text: gr.Textbox, seen: bool) -> gr.Row:
    """A row of buttons that fill in a prompt without asking the server."""
    with gr.Row(elem_classes="examples", elem_id=f"examples-{preset}", visible=seen) as row:
        for example in rows:
            button = gr.Button(example["title"], size="sm", scale=0, min_width=0, elem_classes="example")
            button.click(None, outputs=text, js=f"() => {json.dumps(example['prompt'])}", api_visibility="private")
        if preset == "tiny":
            gr.HTML(f'<p class="prompt-hint">{_TINY_KNOWS}</p>', apply_default_css=False, elem_classes="examples-note")
    return row


class BestStep(NamedTuple):
    """A slider position that is best for the cost weights λ from `low` to `high`; None has no end."""

    threshold: float
    low: float
    high: float | None


def points_message(points: OperatingPoints | None, threshold: float, policy: str) -> str:
    """What the browser needs to draw the handles and to say what a threshold gave, as JSON.

    Args:
        points: The router's; None where it was not measured.
        threshold, policy: Where the dials stand now.

    Returns:
        Empty where there is nothing to say. Else `threshold`, `policy`, `units`, and `tasks`: of each that was measured
        `policy` (whose curves they are), `name`, `cheapest` (choices: [text, explanation, threshold, acceptance]),
        `quality` (what accuracy is of it), and `curves`, of each acceptance one: `acceptance`, `curve` ([threshold, LLM
        share, accuracy, low, high, cost in each of `units` / cost of LLM-only, None where it was not measured] of
        every measured point, LLM-only at 1), `best` (see `best_steps`, by unit), `on` (on what it was measured, and
        how); and `timed`, of each setting whose seconds were measured: `threshold`, `acceptance`, `times` (LLM-only's)
        and `on`.
    """
    tasks: dict[tuple[str, str], list[Curve]] = {}
    measured = {"router": points.curves, **points.untrained} if points else {}
    for scores, curves in measured.items():
        for curve in curves:
            if curve.points:
                tasks.setdefault((scores, curve.task), []).append(curve)
    if not tasks:
        return ""
    # Of two at the same dials the page says the first: that with drafts as the page has them.
    settings = sorted(points.timed, key=lambda each: each.max_draft != "auto") if points else []

    def timed(scores: str, task: str) -> list[dict[str, Any]]:
        """At threshold 0 nobody asks, so a text takes as long whoever scores."""
        found = (each for each in settings if each.task == task and (each.policy == scores or each.threshold == 0))
        return [_timed(each) for each in found]

    told = [_task(*key, curves) | {"timed": timed(*key)} for key, curves in tasks.items()]
    return to_json({"threshold": threshold, "policy": policy, "units": MEASURED_UNITS, "tasks": told})


def task_name(task: str) -> str:
    """What a task is called on the page."""
    return _TASKS[task].name if task in _TASKS else task


def best_steps(curve: Curve, unit: str) -> list[BestStep]:
    """`Curve.best_points` on the slider: points that its steps cannot tell apart count as one.

    Raises:
        InvalidRequest: The unit was not measured.
    """
    steps: list[BestStep] = []
    for point, low, high in curve.best_points(unit):
        threshold = _step(point.threshold)
        same = steps.pop() if steps and steps[-1].threshold == threshold else None
        steps.append(BestStep(threshold, same.low if same else low, high))
    return steps


def top_message(pair: Any, policy: str, starts: Sequence[tuple[float, float]] = ()) -> str:
    """What a threshold above every score costs where the SLM reads along only to score, as JSON.

    Args:
        pair, policy: What is loaded, and what scores.
        starts: Of each dial where it stood when this was asked for, and where it is to stand.

    Returns:
        `policy` as it stands, the `policies` that this is true of, by unit `times`: at least so often LLM-only's,
        `starts`, and `at`, of each message another, so that the dials are put there once.
    """
    policies = [name for name in pair.policies if REGISTRY[name].scores and name != "random"]  # chance reads nothing
    times = reading_along(pair.slm_cost, pair.llm_cost)
    return to_json(
        {"policy": policy, "policies": policies, "times": times, "starts": starts, "at": time.monotonic_ns()}
    )


def _task(policy: str, task: str, curves: Sequence[Curve]) -> dict[str, Any]:
    told = list(map(_curve, curves))
    about = {"policy": policy, "name": task_name(task), "quality": curves[0].quality}
    return {**about, "cheapest": _cheapest(curves), "curves": told}


def _curve(curve: Curve) -> dict[str, Any]:
    same = curve.quality == "same"
    questions = counted(curve.questions, "prompt" if same else f"{task_name(curve.task)} question")
    drafts = f"with drafts of at most {counted(curve.max_draft, 'token')} " if isinstance(curve.max_draft, int) else ""
    alone = "beside the LLM’s own texts" if same else f"LLM alone {whole_percent(curve.llm.accuracy)} right"
    about = f"They are {_TASKS[curve.task].questions}. " if curve.task in _TASKS else ""
    of_whom = f"{curve.pair}, on {machines(curve.hardware)}"
    return {
        "acceptance": curve.acceptance,
        "curve": [_row(curve, point) for point in curve.measured],
        "best": {unit: best_steps(curve, unit) for unit in curve.units},
        "on": f"{drafts}on {questions} ({alone}): {of_whom}. {about}{_OF_YOURS[curve.quality]}",
    }


def _timed(setting: TimedSetting) -> dict[str, Any]:
    drafts = f" with drafts of {setting.max_draft}" if isinstance(setting.max_draft, int) and setting.acceptance else ""
    return {
        "threshold": min(setting.threshold, 1.0),
        "acceptance": setting.acceptance,
        "times": setting.times,
        "on": f"{counted(setting.questions, f'{task_name(setting.task)} question')}{drafts}",
    }


def _row(curve: Curve, point: OperatingPoint) -> list[float | None]:
    measured = [point.llm_share, point.accuracy, point.accuracy_low, point.accuracy_high]
    costs = (curve.relative_cost(point, unit) if unit in curve.units else None for unit in MEASURED_UNITS)
    return [min(point.threshold, 1.0), *measured, *costs]


def _step(threshold: float) -> float:
    """The slider's step for a measured threshold; only an end of the curve stands at an end of the slider."""
    if threshold > 1:
        return LLM_ONLY
    step = 10**-THRESHOLD_DIGITS
    inside = 0 < threshold < 1
    return round(min(max(threshold, step), 1 - step) if inside else threshold, THRESHOLD_DIGITS)


def _cheapest(curves: Sequence[Curve]) -> list[tuple[str, str, float, float]]:
    """At most one choice: its text, its explanation, and both dials."""
    good = [(curve, point) for curve in curves if (point := curve.cheapest_within())]
    if not good:
        return []
    curve, point = min(good, key=lambda each: each[1].bytes)
    acceptance = f", acceptance {point.acceptance:g}" if point.acceptance else ""
    cost = f", {whole_percent(point.bytes / curve.llm.bytes)} of its bytes moved" if curve.llm.bytes else ""
    alone = f" (LLM alone {whole_percent(curve.llm.accuracy)})" if curve.quality == "right" else ""
    explanation = (
        f"Threshold {point.threshold:.{THRESHOLD_DIGITS}g}{acceptance}: {whole_percent(point.llm_share)} LLM tokens, "
        f"{whole_percent(point.accuracy)} {_QUALITIES[curve.quality]}{alone}{cost}"
    )
    text = f"cheapest within {100 * HARDLY_WORSE:.0f} points of the LLM"
    return [(text, explanation, _step(point.threshold), point.acceptance)]
