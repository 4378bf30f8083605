"""The part of `docs/results.md` on how well routers rank the tokens of their own task and of others."""

from __future__ import annotations

from engine.benchmark.markdown import code, table
from trainer.evaluation.auc import AucSummary, Ranked
from trainer.evaluation.estimates import surely
from trainer.evaluation.method_names import label
from trainer.evaluation.summary import RULE


def auc_section(summary: AucSummary) -> str:
    """A row per router and a column per task."""
    tasks = summary["tasks"]
    sizes = "; ".join(f"{task} {each['questions']} and {each['tokens']:,}" for task, each in tasks.items())
    rows = [[label(RULE), *(f"{each['confidence']['value']:.3f}" for each in tasks.values())]]
    rows += [[label(name), *(_cell(own[task]) for task in tasks)] for name, own in summary["routers"].items()]
    return (
        f"## {summary['pair']}: routers at home and away\n\n"
        "How well a score ranks tokens: the chance that one where the SLM does no harm scores above one where the LLM "
        "is preferred (AUC, by labels and rollouts), on questions that no router's weights were trained on. In "
        "brackets how much more than SLM confidence, with the 95 % interval over the questions; bold: surely more, "
        f"↓: surely less. Questions and tokens: {sizes}.\n\n"
        f"{table(['router', *tasks], rows)}\n\n"
        f"{code(summary['command'])}, revision {summary['revision']}, on {summary['hardware']}."
    )


def _cell(ranked: Ranked) -> str:
    auc, above = ranked["auc"]["value"], ranked["above_confidence"]
    value, low, high = (above[name] or 0.0 for name in ("value", "low", "high"))
    return surely(f"{auc:.3f} ({value:+.3f}, {low:+.3f} to {high:+.3f})".replace("-", "−"), above)
