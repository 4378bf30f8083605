"""What is kept of a run, compressed: what spares others its hours, without the questions, which are not ours.

Labels hold hidden states of hundreds of tokens an answer and are read anew in minutes; routers are fitted anew. What
took hours is what the models wrote.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from engine.files import filling
from trainer import TrainerError
from trainer.evaluation.method_names import parsed, spelled
from trainer.evaluation.record import SHARD, GradedAnswer, PointKey, settings_of, stages_in
from trainer.json_files import GZIP, compress_lines, read_json, read_lines, write_json, write_lines
from trainer.shards import JOINT, check_unchanged, note_sha256

STAGES = ("answers-llm", "answers-slm", "rollouts-?", "speculation", "validation-?", "evaluation", "transfer")
"""Folders of a run that are kept, as patterns."""


def keep(run: Path, out: Path, without: Sequence[str] = ()) -> int:
    """Copies what is kept of a run into a new folder, or in place of what was kept of it; returns its bytes.

    Args:
        run, out: Folders.
        without: Settings of the evaluation that another stage has anew, each as `stage/method` with the method as
            `method_names.parsed` reads it; without thresholds all that the stage has.

    Raises:
        TrainerError: There is nothing to keep, a stage or all others lack what is to be left out, a shard has changed,
            or a file names a folder of this machine.
    """
    stages = sorted(folder for pattern in STAGES for folder in run.glob(pattern) if folder.is_dir())
    if not stages:
        raise TrainerError(f"{run} has nothing to keep: give the --out of `run` or `iterate`")
    with filling(out) as new:
        for stage in stages:
            (new / stage.name).mkdir()
            for file in sorted(stage.iterdir()):
                _copy(file, new / stage.name)
        for each in without:
            _leave_out(*_left_out(new / "evaluation", each), each)
        if (run / "rounds.json").exists():
            shutil.copyfile(run / "rounds.json", new / "rounds.json")
        machine = run.absolute().parent
        if named := _naming(new, f"{machine}/"):
            raise TrainerError(f"{named} names {machine} in a command: it is kept where that is a relative path")
        return sum(file.stat().st_size for file in new.rglob("*") if file.is_file())


def _copy(file: Path, out: Path) -> None:
    """Copies what a shard's stage says of it, and complete shards, compressed."""
    if file.suffix == ".json":
        shutil.copyfile(file, out / file.name)
    elif SHARD.fullmatch(file.name):
        check_unchanged(file)
        kept = out / f"{file.name.removesuffix(GZIP)}{GZIP}"
        (shutil.copyfile if file.suffix == GZIP else compress_lines)(file, kept)
        note_sha256(kept, kept)


def _left_out(folder: Path, asked: str) -> tuple[Path, set[PointKey]]:
    """The file of a kept stage, and which of its settings `stage/method` names; a TrainerError if it has them not.

    Another stage has to have the method at that acceptance, at whatever thresholds: else its answers would be lost.
    """
    stage, _, text = asked.partition("/")
    about, stages, method = folder / f"{stage}.json", stages_in(folder), parsed(text)
    if about not in stages or method.folder:
        raise TrainerError(f"{asked}: write STAGE/METHOD with a stage of {', '.join(each.stem for each in stages)}")
    title = spelled(method.name, method.acceptance, method.max_draft)
    alike = {path: {s for s in settings_of(each) if spelled(*s[:3]) == title} for path, each in stages.items()}
    there = {setting.threshold: setting for setting in alike.pop(about)}
    if not there or set(method.thresholds) - set(there):
        raise TrainerError(f"{asked}: stage {stage} has of {title} {', '.join(map(repr, sorted(there))) or 'nothing'}")
    if not any(alike.values()):
        raise TrainerError(f"{asked}: no other stage of {folder.name} has {title}")
    return about, {there[threshold] for threshold in method.thresholds or there}


def _leave_out(about: Path, gone: set[PointKey], asked: str) -> None:
    """Drops settings from a stage, whose file says so then; a stage that has no others goes whole."""
    made_of = read_json(about, dict[str, Any], "restore it")
    shards = sorted(about.parent.glob(f"{about.stem}-?????.jsonl{GZIP}"))
    left = [
        (each, [s.threshold for s in settings_of({"methods": [each]}) if s not in gone]) for each in made_of["methods"]
    ]
    made_of["methods"] = [[name, thresholds, *others] for (name, _, *others), thresholds in left if thresholds]
    if not made_of["methods"]:
        for file in (about, *(f for shard in shards for f in about.parent.glob(f"{shard.name}*"))):
            file.unlink()
        return
    for shard in shards:
        lines = zip(read_lines([shard]), read_lines([shard], GradedAnswer), strict=True)
        write_lines(shard, [line for line, answer in lines if answer.setting not in gone])
        compress_lines(shard, shard)
        note_sha256(shard, shard)
    made_of["note"] = JOINT.join(filter(None, [made_of.get("note"), f"without {asked}, which another stage has"]))
    write_json(about, made_of)


def _naming(folder: Path, machine: str) -> str:
    """The first file that names a folder of this machine, or ""."""
    return next((p.name for p in sorted(folder.rglob("*.json")) if machine in p.read_text(encoding="utf-8")), "")
