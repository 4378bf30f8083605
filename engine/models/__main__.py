"""`python -m engine.models`: hashes the weights in the cache anew, whether or not they seem to have changed.

Damaged files are named, and fetched or made again at the next start. The exit status is 2 then, else 0.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence

from engine.errors import exit_status
from engine.events.progress import ProgressCallback, print_progress
from engine.models.cache import known_sha256
from engine.models.sources import PRESETS
from engine.settings import Settings, load_settings


def main(arguments: Sequence[str] | None = None) -> int:
    """Checks everything; returns the exit status."""
    argparse.ArgumentParser(prog="python -m engine.models", description=__doc__).parse_args(arguments)
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
    from engine.models.convert import problem  # late: a bad setting is told at once

    cache = settings.cache_dir
    for file in (model.gguf for preset in PRESETS.values() for model in (preset.slm, preset.llm) if model.gguf):
        path = cache / file.place / file.name
        if path.is_file():
            sha256 = known_sha256(path, cache, progress, again=True)
            yield str(path), None if sha256 == file.sha256 else f"its sha256 is {sha256}, not {file.sha256}"
    for form in ("nf4", "int8"):
        for folder in sorted((cache / form).glob("*")):
            if folder.is_dir() and folder.suffix != ".tmp":
                yield str(folder), problem(folder, None, cache, progress, again=True)


if __name__ == "__main__":
    sys.exit(main())
