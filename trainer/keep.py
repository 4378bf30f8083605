"""What is kept of a run, compressed: what spares others its hours, without the questions, which are not ours.

Labels hold hidden states of hundreds of tokens an answer and are read anew in minutes; routers are fitted anew. What
took hours is what the models wrote.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from engine.weights.files import filling
from trainer import TrainerError
from trainer.evaluation.record import SHARD
from trainer.json_files import GZIP, compress_lines
from trainer.shards import check_unchanged, note_sha256

STAGES = ("answers-llm", "answers-slm", "rollouts-?", "speculation", "validation-?", "evaluation", "transfer")
"""Folders of a run that are kept, as patterns."""


def keep(run: Path, out: Path) -> int:
    """Copies what is kept of a run into a new folder, or in place of what was kept of it; returns its bytes.

    Raises:
        TrainerError: There is nothing to keep, a shard has changed, or a file names a folder of this machine.
    """
    stages = sorted(folder for pattern in STAGES for folder in run.glob(pattern) if folder.is_dir())
    if not stages:
        raise TrainerError(f"{run} has nothing to keep: give the --out of `run` or `iterate`")
    with filling(out) as new:
        for stage in stages:
            (new / stage.name).mkdir()
            for file in sorted(stage.iterdir()):
                _copy(file, new / stage.name)
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


def _naming(folder: Path, machine: str) -> str:
    """The first file that names a folder of this machine, or ""."""
    return next((p.name for p in sorted(folder.rglob("*.json")) if machine in p.read_text(encoding="utf-8")), "")
