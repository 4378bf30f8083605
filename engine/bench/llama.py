"""llama.cpp in a process of its own: `python -m engine.bench.llama FILE CONTEXT THREADS`, free of torch.

Reads lines `[prompt's token ids, tokens]` of JSON and answers each with a line of the new token ids, greedily. Needs
llama-cpp-python, the optional extra `llama`.
"""

from __future__ import annotations

import json
import sys


def main() -> None:
    """Serves until stdin ends."""
    from llama_cpp import Llama  # pyright: ignore[reportMissingImports]

    path, context, threads = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    model = Llama(path, n_ctx=context, n_batch=512, n_threads=threads, n_threads_batch=threads, verbose=False)
    for line in sys.stdin:
        prompt, tokens = json.loads(line)
        model.reset()  # else the last run's keys would be found and the prompt not read
        drawn = model.generate(prompt, temp=0.0, top_k=1)
        # In this order: `zip` must not draw one token too many.
        text = [int(token) for _, token in zip(range(tokens), drawn, strict=False)]
        print(json.dumps(text), flush=True)


if __name__ == "__main__":
    main()
