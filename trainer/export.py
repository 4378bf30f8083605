"""An evaluation in the record formats of benchmarks of routers, so that others can put ours beside theirs.

Those benchmarks route whole questions among models. Here every point of the plane, a method at a threshold and an
acceptance, is one model that answers all questions. Formats as their code reads them:

- LLMRouterBench (github.com/ynulihao/LLMRouterBench, `data_collector/storage.py` and `baselines/data_loader.py`): one
  file per data set, split and model, with score, tokens and cost of each record.
- RouterArena (github.com/RouteWorks/RouterArena, `router_inference/check_config_prediction_files.py` and
  `llm_evaluation/run.py`): per router a configuration and a list of predictions, and a price list of all models. Its
  `global_index` and `prompt` must be those of its own data set: evaluate on a file whose ids and questions these are.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.grading import final_answer
from trainer import TrainerError
from trainer.evaluation.record import Evaluation, GradedAnswer, Point
from trainer.json_files import write_json
from trainer.questions.question import Question, prompt

_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9.-]+")


@dataclass(frozen=True)
class _Model:
    """A point of the plane as these benchmarks see it: a model with its answers, each with its question."""

    name: str
    answers: tuple[tuple[Question, GradedAnswer], ...]

    def total(self, field: str) -> float:
        """Of one field of all answers."""
        return sum(getattr(answer, field) for _, answer in self.answers)


def export(
    evaluation: Evaluation,
    questions: Sequence[Question],
    format: str,
    split: str,
    out: Path,
    report: Callable[[str], None] = print,
) -> list[Path]:
    """Writes the points of an evaluation; returns the files.

    A point whose answers do not say what a prompt had of tokens and what an answer would be charged is left out, and
    reported: it was evaluated before that was written down.

    Args:
        questions: Those of the evaluation, and perhaps more.
        format: One of `FORMATS`.
        split: Of the questions, e.g. "dev".

    Raises:
        TrainerError: A question is missing, or all points would be left out.
    """
    known = {question.id: question for question in questions}
    models = [_model(point, evaluation, known) for point in evaluation.points if _is_priced(point)]
    if not models:
        raise TrainerError(f"{evaluation.task} was evaluated before prices were written down: evaluate it again")
    if left := [str(point.answers[0].setting) for point in evaluation.points if not _is_priced(point)]:
        report(f"left out, since they were evaluated before prices were written down: {', '.join(left)}")
    files = FORMATS[format](models, evaluation.task, split)
    for name, content in files.items():
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        write_json(out / name, content, indent=2)
    return [out / name for name in files]


def _is_priced(point: Point) -> bool:
    return all(answer.price is not None and answer.prompt_tokens is not None for answer in point.answers)


def _model(point: Point, evaluation: Evaluation, questions: Mapping[str, Question]) -> _Model:
    if missing := [answer.question for answer in point.answers if answer.question not in questions]:
        raise TrainerError(
            f"{len(missing)} of the evaluation's questions are not in the data, e.g. {missing[0]}: name the files that "
            "`evaluate` had as --data"
        )
    name = _NOT_IN_NAMES.sub("-", f"citer {evaluation.preset} {point.answers[0].setting}").strip("-")
    return _Model(name, tuple((questions[answer.question], answer) for answer in point.answers))


def _llmrouterbench(models: Sequence[_Model], task: str, split: str) -> dict[str, Any]:
    now = time.strftime("%Y%m%d_%H%M%S")
    return {
        f"bench/{task}/{split}/{model.name}/{task}-{split}-{model.name}-{now}.json": {
            "performance": model.total("correct") / len(model.answers),
            "time_taken": round(model.total("seconds"), 4),
            "prompt_tokens": model.total("prompt_tokens"),
            "completion_tokens": model.total("tokens"),
            "cost": model.total("price"),
            "counts": len(model.answers),
            "model_name": model.name,
            "dataset_name": task,
            "split": split,
            "demo": False,
            "extra_metrics": {unit: model.total(unit) for unit in ("bytes", "flops", "llm_tokens")},
            "records": [_record(number, *answer) for number, answer in enumerate(model.answers)],
        }
        for model in models
    }


def _record(number: int, question: Question, answer: GradedAnswer) -> dict[str, Any]:
    return {
        "index": number,
        "origin_query": question.question,
        "prompt": prompt(question),
        "prompt_tokens": answer.prompt_tokens,
        "completion_tokens": answer.tokens,
        "cost": answer.price,
        "score": float(answer.correct),
        "prediction": final_answer(question, answer.text) or "",
        "ground_truth": question.answer,
        "raw_output": answer.text,
        "extra_fields": {"llm_tokens": answer.llm_tokens, "bytes": answer.bytes},
    }


def _routerarena(models: Sequence[_Model], task: str, split: str) -> dict[str, Any]:
    files: dict[str, Any] = {
        "model_cost/cost.json": {
            # Reading is in it: their price list has no third price for what a model reads of the other's text.
            model.name: {
                "input_token_price_per_million": 0.0,
                "output_token_price_per_million": 1e6 * model.total("price") / model.total("tokens"),
            }
            for model in models
        }
    }
    for model in models:
        files[f"router_inference/config/{model.name}.json"] = {
            "pipeline_params": {"router_name": model.name, "models": [model.name]}
        }
        files[f"router_inference/predictions/{model.name}.json"] = [
            {
                "global_index": question.id,
                "prompt": question.question,
                "prediction": model.name,
                "generated_result": {
                    "generated_answer": answer.text,
                    "success": bool(answer.text.strip()),
                    "token_usage": _usage(answer),
                    "provider": "citer",
                    "error": None,
                },
            }
            for question, answer in model.answers
        ]
    return files


def _usage(answer: GradedAnswer) -> dict[str, int]:
    read = answer.prompt_tokens or 0
    return {"input_tokens": read, "output_tokens": answer.tokens, "total_tokens": read + answer.tokens}


FORMATS: dict[str, Callable[[Sequence[_Model], str, str], dict[str, Any]]] = {
    "llmrouterbench": _llmrouterbench,
    "routerarena": _routerarena,
}
"""Files by path, each as JSON, of all models of a task and split."""
