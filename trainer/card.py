"""The model card beside a router: its own JSON card, told to people. Every figure comes from `router.json`."""

from __future__ import annotations

from pathlib import Path

from engine.router import RouterCard


def write_card(card: RouterCard, folder: Path) -> None:
    """Writes `README.md` into a router's folder."""
    (folder / "README.md").write_text(render_card(card), encoding="utf-8")


def render_card(card: RouterCard) -> str:
    """The model card in Markdown, with the Hub's YAML header."""
    training, metrics = card.training, card.metrics
    questions, tokens = training["questions"], training["tokens"]
    cases = "\n".join(f"| {name} | {share:.1%} |" for name, share in metrics["cases"].items())
    inputs = f"{card.hidden_size} hidden state" + (" + 8 logit features" if card.logit_features else "")
    return f"""---
license: apache-2.0
library_name: citer-playground
tags: [router, token-level-routing, citer]
---

# Router `{card.name}`

{card.description}

Scores how safe it is to let **{card.slm}** write the next token instead of **{card.llm}**
(CITER, Zheng et al., COLM 2025). {card.polarity[0].upper()}{card.polarity[1:]}.

| | |
|---|---|
| input | {inputs} of the SLM, {training["quantisation"]} |
| network | {card.hidden_size * 2} → {card.hidden_size} → 1, dropout {card.dropout} |
| labels | shortcut preferences, reference from {training["reference"]}; no rollouts yet |
| questions | {questions["train"]} training, {questions["stop"]} early stopping, {questions["test"]} held out |
| decided tokens | {tokens["train"]:,} training, {tokens["stop"]:,} early stopping, {tokens["test"]:,} held out |
| class balance | SLM preferred in {metrics["preferred_slm"]:.1%} of the decided held-out tokens; no class weights |
| starting threshold | {card.threshold:.2f}, which separates the preferences of the early-stopping questions best |
| seed | {training["seed"]} |

## On the held-out questions

{metrics["questions"]} questions the router never saw, {metrics["tokens"]:,} tokens, teacher-forced on the reference.

| ranking of tokens by | AUC against the preference |
|---|---|
| this router's score | {metrics["auc"]:.3f} |
| the SLM's top probability | {metrics["auc_top_probability"]:.3f} |

| case | share of tokens |
|---|---|
{cases}

"SLM right" and "only LLM right" are the shortcut preferences; "neither" is not decided by them and was not trained on.
What the score is worth in generated answers is another question, which these figures do not settle.
"""
