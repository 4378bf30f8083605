"""What a visitor can set, as gradio components: labels, ranges and starting values; the engine says what is valid."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

import gradio as gr

from app.components import ASSETS, QUIET, drawn
from app.fields import LARGEST_SEED
from engine import POLICIES, Prices, Settings
from engine.policy import FIXED
from engine.setting import LLM_ONLY, MAX_DRAFT

EXAMPLES: dict[str, list[dict[str, str]]] = json.loads((ASSETS / "examples.json").read_text("utf-8"))
"""Prompts by preset: `title`, `prompt`, and `answer` where there is a right one."""

POLICY_LABELS = {
    "router": "trained router",
    "confidence": "small model's confidence",
    "random": "chance",
    "slm": "always the small model",
    "llm": "always the large model",
}


class Knob(gr.Slider):
    """A slider whose value is checked by the engine, so that page and API refuse with the same words."""

    is_template = True  # drawn by gradio's slider

    def preprocess(self, payload: float) -> float:
        return payload


class Number(gr.Number):
    """A number field that is checked at the field (`assets/page/lib/fields.js`), and by the engine."""

    is_template = True  # drawn by gradio's

    def preprocess(self, payload: float | None) -> float | None:
        return payload


def tokens_field(settings: Settings, label: str, elem_id: str) -> Number:
    """How many tokens a text may have at most: no more than the context."""
    limits: dict[str, Any] = {"minimum": 1, "maximum": settings.context, "step": 1}
    return Number(settings.max_new_tokens, label=label, min_width=96, elem_id=elem_id, **limits)


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


def scoring_choices(policies: Iterable[str]) -> list[tuple[str, str]]:
    """The policies to which a threshold means something, as (label, value)."""
    return [(POLICY_LABELS[name], name) for name in policies if name not in FIXED]


def policy_update(choices: list[tuple[str, str]], chosen: str) -> Any:
    """Offers the policies that the loaded models allow; if the chosen one is not among them, confidence is chosen.

    Else no value is sent, since the visitor or a link may have chosen another one by now.
    """
    if chosen in [name for _, name in choices]:
        return gr.update(choices=choices)
    return gr.update(choices=choices, value="confidence")


def prompt_box(label: str, elem_id: str, value: str = "") -> gr.Textbox:
    """Where a prompt is written, and by which keys (`assets/page/lib/keys.js`); its label is for screen readers."""
    return gr.Textbox(
        value,
        label=label,
        lines=2,
        max_lines=8,
        placeholder="Ask for something. Enter sends, Shift + Enter breaks the line.",
        elem_id=elem_id,
        container=False,
        show_label=False,
    )


def conversation_panel() -> gr.HTML:
    """The conversation before the prompt: a field whose value is `app.fields.turns_text`; its button empties it."""
    panel = drawn("conversation", "conversation", events=("new_conversation",))
    panel.new_conversation(None, outputs=panel, js="() => ''", **QUIET)
    return panel


def ask_card(preset: str | None, prompt: str) -> tuple[gr.Textbox, gr.Button, gr.Button, dict[str, gr.Row]]:
    """Prompt, Generate, Stop in its place, and per preset its row of examples; that of the pair to come is seen."""
    with gr.Column(elem_id="ask", elem_classes="card"):
        with gr.Row(elem_id="ask-line"):
            text = prompt_box("Prompt", "prompt", prompt)
            generate = gr.Button("Generate", variant="primary", elem_id="generate", min_width=112, scale=0)
            stop = gr.Button("Stop", elem_id="stop", min_width=112, scale=0)
        seen = "tiny" if preset == "tiny" else "cpu"
        examples = {name: _examples(name, rows, text, name == seen) for name, rows in EXAMPLES.items()}
    return text, generate, stop, examples


def more_card(settings: Settings, start: float) -> dict[str, Any]:
    """Everything else that shapes a text, folded away: the fields of `app.fields.page_request` by their names."""
    with gr.Column(elem_id="more", elem_classes="card"):  # an accordion would not draw them before it is opened
        with gr.Row():
            acceptance = knob(
                0,
                1,
                settings.stated.get("acceptance", 0.0),
                step=0.01,
                label="Let the large model correct (acceptance)",
                info="0 keeps all that the small model wrote; 1 keeps only what the large one would have written.",
                elem_id="acceptance",
                min_width=260,
            )
            named = settings.stated.get("policy", "router")
            chosen = "router" if named in FIXED else named
            policy = gr.Dropdown(
                scoring_choices(POLICIES),
                value=chosen,
                label="Scored by",
                filterable=False,
                elem_id="policy",
                min_width=260,
            )
            # In steps as fine as the scores that are sent: half of a text's may lie above 0.9997.
            threshold = knob(0, max(LLM_ONLY, start), start, step=1e-7, label="Threshold", elem_id="threshold")
        with gr.Row():
            limit = tokens_field(settings, "New tokens", "max-new-tokens")
            temperature = knob(0, 2, 0, step=0.05, label="Temperature", min_width=140)
            top_p = knob(0.05, 1, 1, step=0.05, label="Top-p", min_width=140)
            top_k = Number(0, label="Top-k (0: all)", minimum=0, step=1, min_width=96)
            penalty = Number(1.0, label="Repetition penalty", minimum=0.1, maximum=10, step=0.05, min_width=96)
            seed = Number(0, label="Seed", minimum=0, maximum=LARGEST_SEED, step=1, min_width=96)
            draft = Number(
                settings.stated.get("max_draft", 0),
                label="Draft at most (0: auto)",
                elem_id="max-draft",
                minimum=0,
                maximum=MAX_DRAFT,
                step=1,
                min_width=96,
            )
        with gr.Row(elem_id="prices"):  # of a million tokens; only the browser reads them
            own = Prices()
            for name, price in (("small", own.slm), ("large", own.llm)):
                for does, each in (("reads", price * own.reading_ratio), ("writes", price)):
                    Number(
                        each,
                        label=f"Price of 1M tokens: {name} model {does}",
                        minimum=0,
                        interactive=True,
                        min_width=120,
                    )
        with gr.Row():
            system = gr.Textbox(label="System prompt", lines=1, max_lines=4, placeholder="the model's own default")
            stop = gr.Textbox(label="Stop strings", lines=1, max_lines=4, placeholder="one per line")
        raw = gr.Checkbox(label="Raw completion, no chat format", elem_id="raw")
    return {
        "threshold": threshold,
        "acceptance": acceptance,
        "policy": policy,
        "system": system,
        "raw": raw,
        "temperature": temperature,
        "top_p": top_p,
        "top_k": top_k,
        "repetition_penalty": penalty,
        "seed": seed,
        "max_new_tokens": limit,
        "stop": stop,
        "max_draft": draft,
    }


def _examples(preset: str, rows: list[dict[str, str]], text: gr.Textbox, seen: bool) -> gr.Row:
    """A row of buttons that fill in a prompt without asking the server."""
    with gr.Row(elem_classes="examples", elem_id=f"examples-{preset}", visible=seen) as row:
        for example in rows:
            button = gr.Button(example["title"], size="sm", scale=0, min_width=0, elem_classes="example")
            button.click(None, outputs=text, js=f"() => {json.dumps(example['prompt'])}", api_visibility="private")
    return row
