"""`python -m engine.weights`: hashes the weights in the cache anew, whether or not they seem to have changed.

What is damaged is named, and fetched or made again at the next start. The exit status is 2 then, else 0.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

from engine.errors import exit_status
from engine.settings import Settings, load_settings
from engine.weights.cache_folder import note_beside, sha256_once
from engine.weights.presets import PRESETS, GgufModel
from engine.weights.progress import ProgressCallback, print_progress


def main() -> int:
    """Checks everything; returns the exit status."""
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
    from engine.weights.convert import folder_of, problem  # late: a bad setting is told at once

    for preset in PRESETS.values():
        for model in (preset.slm, preset.llm):
            if not isinstance(model, GgufModel):
                continue
            path, folder = settings.cache_dir / "gguf" / model.file.name, folder_of(model, settings)
            if path.is_file():
                sha256 = sha256_once(path, note_beside(path), progress, again=True)
                same = sha256 == model.file.sha256
                yield str(path), None if same else f"its sha256 is {sha256}, not {model.file.sha256}"
            if folder.exists():
                yield str(folder), problem(folder, model, progress, again=True)


if __name__ == "__main__":
    sys.exit(main())
