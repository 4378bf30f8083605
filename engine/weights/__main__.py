"""`python -m engine.weights`: hashes the weights in the cache anew, whether or not they seem to have changed.

What is damaged is named, and fetched or made again at the next start. The exit status is 2 then, else 0.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence

from engine.errors import exit_status
from engine.pairs.presets import PRESETS, GgufModel
from engine.settings import Settings, load_settings
from engine.weights.cache_folder import note_beside, sha256_once
from engine.weights.files import GGUF
from engine.weights.progress import ProgressCallback, print_progress


def main(arguments: Sequence[str] | None = None) -> int:
    """Checks everything; returns the exit status."""
    argparse.ArgumentParser(prog="python -m engine.weights", description=__doc__).parse_args(arguments)
    return exit_status(_main)


def _main() -> int:
    settings = load_settings()
    faults = 0
    for what, fault in check(settings, print_progress if sys.stderr.isatty() else None):
        faults += fault is not None
        print(f"{what}: {fault or 'whole'}")
    return 2 if faults else 0


def check(settings: Settings, progress: ProgressCallback | None = None) -> Iterator[tuple[str, str | None]]:
    """Each file or folder of weights in the cache, and what is wrong with it; None if nothing is."""
    from engine.weights.convert import problem  # late: a bad setting is told at once

    for preset in PRESETS.values():
        for model in (preset.slm, preset.llm):
            path = settings.cache_dir / GGUF / model.file.name if isinstance(model, GgufModel) else None
            if isinstance(model, GgufModel) and path is not None and path.is_file():
                sha256 = sha256_once(path, note_beside(path), progress, again=True)
                same = sha256 == model.file.sha256
                yield str(path), None if same else f"its sha256 is {sha256}, not {model.file.sha256}"
    for form in ("nf4", "int8"):
        for folder in sorted((settings.cache_dir / form).glob("*")):
            if folder.is_dir() and folder.suffix != ".tmp":
                yield str(folder), problem(folder, None, progress, again=True)


if __name__ == "__main__":
    sys.exit(main())
