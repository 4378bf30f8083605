"""What a visitor can set, as gradio components: labels, ranges and starting values. Nothing happens here.

Ranges are those of the sliders; what is valid is the engine's to say. Where the router was measured, the threshold also
has two handles in other units and says what it gave; `assets/page/operating_points.js` draws them, see `app.handles`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from typing import Any

import gradio as gr

from app.components import ASSETS, drawn
from app.handles import THRESHOLD_DIGITS
from app.meter import UNITS
from engine import DEFAULT_THRESHOLD, POLICIES, Settings
from engine.operating_points import LLM_ONLY

POLICY_LABELS = {
    "router": "trained router",
    "confidence": "SLM's own confidence",
    "random": "chance",
    "slm": "always the SLM",
    "llm": "always the LLM",
}


class Knob(gr.Slider):
    """A slider whose value is checked by the engine, so that page and API refuse with the same words."""

    is_template = True  # drawn by gradio's slider

    def preprocess(self, payload: float) -> float:
        """The value as it came."""
        return payload


def knob(minimum: float, maximum: float, value: float, **options: Any) -> Knob:
    """A slider without gradio's reset button, which changes the value without an event."""
    return Knob(minimum, maximum, value, buttons=[], **options)


def threshold_knob(settings: Settings, elem_id: str) -> Knob:
    """A dial from SLM-only to LLM-only; it starts where the settings say."""
    start = DEFAULT_THRESHOLD if settings.threshold is None else settings.threshold
    top, step = max(LLM_ONLY, start), 10**-THRESHOLD_DIGITS
    return knob(0, top, start, step=step, label="Threshold", elem_id=elem_id)


class _Fields:
    """Components in the order of their declaration."""

    def all(self) -> list[Any]:
        return [getattr(self, field.name) for field in fields(self)]  # type: ignore[arg-type]


@dataclass
class Sampling(_Fields):
    """How a token is drawn, in the order of `app.forms.page_request`."""

    system: gr.Textbox
    raw: gr.Checkbox
    temperature: Knob
    top_p: Knob
    top_k: gr.Number
    repetition_penalty: gr.Number
    seed: gr.Number
    max_new_tokens: gr.Number
    stop: gr.Textbox


@dataclass
class View(_Fields):
    """In what costs are shown."""

    unit: gr.Radio
    slm_price: Knob
    llm_price: Knob


@dataclass
class Prompt:
    """What to write and when."""

    text: gr.Textbox
    generate: gr.Button
    stop: gr.Button
    examples: dict[str, gr.Row]


def prompt_box(label: str, elem_id: str) -> gr.Textbox:
    """Where a prompt is written; its label is for screen readers."""
    return gr.Textbox(
        label=label,
        lines=2,
        max_lines=8,
        placeholder="Ask for something. Shift + Enter starts.",
        elem_id=elem_id,
        container=False,
        show_label=False,
    )


def prompt_card() -> Prompt:
    """Prompt, buttons and examples."""
    with gr.Column(elem_id="prompt-card", elem_classes="card"):
        text = prompt_box("Prompt", "prompt")
        with gr.Row(elem_id="actions"):
            examples = {preset: _examples(preset, rows, text) for preset, rows in _load_examples().items()}
            generate = gr.Button("Generate", variant="primary", elem_id="generate", min_width=112, scale=0)
            stop = gr.Button("Stop", interactive=False, elem_id="stop", min_width=80, scale=0)
    return Prompt(text, generate, stop, examples)


@dataclass
class Dials:
    """What decides who writes, and the other two handles on it."""

    threshold: Knob
    points: gr.HTML
    policy: gr.Dropdown


def threshold_card(settings: Settings) -> Dials:
    """The dial between cost and quality, what it means in measured figures, and what turns a state into a score."""
    with gr.Column(elem_id="threshold-card", elem_classes="card"):
        threshold = threshold_knob(settings, "threshold")
        gr.HTML(
            '<div class="ends"><span>SLM only</span><span>score below it → LLM</span><span>LLM only</span></div>',
            apply_default_css=False,
            elem_classes="ends-block",
        )
        points = drawn("operating_points", "points")
        policy = gr.Dropdown(
            [(POLICY_LABELS[name], name) for name in POLICIES],
            value=settings.policy,
            label="Scored by",
            filterable=False,
            elem_id="policy",
        )
    return Dials(threshold, points, policy)


def view_card(settings: Settings) -> View:
    """The unit of cost and the two prices."""
    with gr.Column(elem_id="view-card", elem_classes="card"):
        unit = gr.Radio(
            [(label, name) for name, label in UNITS.items()], value="bytes", label="Cost in", elem_id="unit"
        )
        prices = [
            knob(
                0,
                max(top, value),
                value,
                step=step,
                label=f"{name} price",
                elem_id=f"{name.lower()}-price",
            )
            for name, value, top, step in (
                ("SLM", settings.price.slm, 2.0, 0.01),
                ("LLM", settings.price.llm, 10.0, 0.05),
            )
        ]
        gr.HTML('<p id="price-note">per million tokens, in any currency</p>', apply_default_css=False)
    return View(unit, *prices)


def sampling_card(settings: Settings) -> Sampling:
    """Everything else that shapes a text, folded away."""
    with gr.Accordion("Sampling and prompt format", open=False, elem_id="sampling-card", elem_classes="card"):
        temperature = knob(0, 2, 0, step=0.05, label="Temperature")
        top_p = knob(0.05, 1, 1, step=0.05, label="Top-p")
        with gr.Row():
            top_k = gr.Number(0, label="Top-k (0: all)", min_width=96)
            penalty = gr.Number(1.0, label="Repetition penalty", step=0.05, min_width=96)
        with gr.Row():
            limit = gr.Number(settings.max_new_tokens, label="New tokens", min_width=96, elem_id="max-new-tokens")
            seed = gr.Number(settings.seed, label="Seed", min_width=96)
        system = gr.Textbox(label="System prompt", lines=1, max_lines=4, placeholder="the model's own default")
        stop = gr.Textbox(label="Stop strings", lines=1, max_lines=4, placeholder=r"one per line; \n is a newline")
        raw = gr.Checkbox(label="Raw completion, no chat format", elem_id="raw")
    return Sampling(system, raw, temperature, top_p, top_k, penalty, seed, limit, stop)


def _load_examples() -> dict[str, list[dict[str, str]]]:
    return json.loads((ASSETS / "examples.json").read_text("utf-8"))


def _examples(preset: str, rows: list[dict[str, str]], text: gr.Textbox) -> gr.Row:
    """A row of buttons that fill in a prompt without asking the server."""
    with gr.Row(elem_classes="examples", elem_id=f"examples-{preset}", visible=preset == "cpu") as row:
        for example in rows:
            button = gr.Button(example["title"], size="sm", scale=0, min_width=0, elem_classes="example")
            button.click(None, outputs=text, js=f"() => {json.dumps(example['prompt'])}", api_visibility="private")
    return row
