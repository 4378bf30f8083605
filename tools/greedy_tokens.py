"""Greedy tokens of a pair on the prompts of `assets/prompts.json` at five thresholds, as one JSON file.

Two revisions whose files are equal write the same texts. Only the public API is used, so it runs on old revisions too:

    python -m tools.greedy_tokens --preset cpu --out tokens.json
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from pathlib import Path

import engine

THRESHOLDS = (0.0, 0.6, 0.9, 0.97, 1.01)


def main() -> None:
    """Writes the file and prints its SHA-256."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", default="tiny")
    parser.add_argument("--tokens", type=int, default=128, help="new tokens of each text")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    prompts = json.loads((Path(engine.__file__).parent.parent / "assets" / "prompts.json").read_text("utf-8"))
    pair = engine.load(options.preset)
    texts = []
    for prompt in prompts:
        for threshold in THRESHOLDS:
            trace = pair.generate(prompt, threshold=threshold, max_new_tokens=options.tokens)
            texts.append(
                {
                    "prompt": prompt,
                    "threshold": threshold,
                    "tokens": [event.id for event in trace.events],
                    "authors": "".join(event.role.value[0] for event in trace.events),
                }
            )
        print(f"{len(texts)} texts", file=sys.stderr)
    content = json.dumps(texts, ensure_ascii=False, indent=0)
    options.out.write_text(content + "\n", encoding="utf-8")
    print(hashlib.sha256(content.encode()).hexdigest())


if __name__ == "__main__":
    main()
