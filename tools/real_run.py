"""`trainer run` of the tiny pair, once here and once with its LLM on a real vLLM; `make test-servers` calls it.

In each stage of the second run that asks the server, the server gets SIGKILL once the stage has begun, and is started
again; in the last one the trainer, too. Labels ask it nothing, nor do the first round's rollouts, which the SLM
finishes alone. The labels of both runs are compared token by token.
"""

from __future__ import annotations

import signal
import tempfile
import time
from pathlib import Path

import pyarrow.parquet as pq

from engine.router import Router
from tests.support.paths import TINY
from tests.trainer.test_pipeline import begun
from tools.real_servers import Server, install

RUN = "run --preset tiny --train-questions 300 --dev-questions 6 --rounds 2 --budget 2"
RUN += " --max-new-tokens 90 --epochs 2"
STAGES = {
    "answers": "answers-llm/answers.json",
    "rollouts": "rollouts-2/rollouts-00000.parquet",
    "evaluation": "evaluation/llm.json",
}
"""For each stage that asks the server, a file that exists once it has begun."""

LABELS = ("question", "position", "token", "slm_token", "llm_token", "case")


def served(folder: Path) -> None:
    """The run with a server that is killed in every stage that asks it, and a trainer that is killed in the last."""
    with tempfile.TemporaryDirectory() as models:
        server = Server(Path(models))
        server.start()
        where = {"CITER_LLM_URL": server.url, "CITER_LLM_CONFIG": str(TINY / "llm" / "config.json")}
        run = begun(folder, RUN, **where)
        try:
            for stage, file in STAGES.items():
                while not (folder / "run" / file).exists():
                    assert run.poll() is None, (folder / "log").read_text()[-3000:]
                    time.sleep(0.05)
                server.stop(signal.SIGKILL)
                print(f"{stage}: the server was killed", flush=True)
                if stage == "evaluation":
                    run.kill()
                    run.wait()
                    run = begun(folder, RUN, **where)
                server.start()
            assert run.wait() == 0, (folder / "log").read_text()[-3000:]
        finally:
            run.kill()
            server.stop()


def labels(folder: Path) -> list[dict[str, object]]:
    """The labelled tokens of a run."""
    paths = sorted((folder / "run" / "labels-llm").glob("labels-*/*.parquet"))
    return [row for path in paths for row in pq.read_table(path, columns=list(LABELS)).to_pylist()]


def main() -> None:
    """Runs both, and prints how many labels differ."""
    install()
    with tempfile.TemporaryDirectory() as name:
        here, there = (Path(name) / each for each in ("here", "served"))
        here.mkdir()
        there.mkdir()
        assert begun(here, RUN).wait() == 0, (here / "log").read_text()[-3000:]
        served(there)
        ours, theirs = labels(here), labels(there)
        places = {(row["question"], row["position"]): row for row in theirs}
        other = sum(places.get((row["question"], row["position"])) != row for row in ours)
        assert ours and len(ours) == len(theirs)
        routers = [Router.load(folder / "routers" / "tiny") for folder in (here, there)]
        aucs = " and ".join(f"{each.card.metrics['auc']:.3f}" for each in routers)
        print(f"labels: {other} of {len(ours):,} tokens differ; AUC of the routers, here and served: {aucs}")


if __name__ == "__main__":
    main()
