"""The page as `app.py` serves it, with one more route: how many texts are being written, and how many wait."""

from __future__ import annotations

import runpy

from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from engine.provenance import ROOT
from tools.soak.stage import COUNTS


def main() -> None:
    page = runpy.run_path(str(ROOT / "app.py"))
    guard, host = page["application"](page["demo"], page["settings"]), page["host"]
    inside = guard.app

    async def counting(scope: Scope, receive: Receive, send: Send) -> None:
        if scope.get("path") == f"/{COUNTS}":
            counts = [getattr(host.scheduler, name, 0) for name in ("rows", "waiting")]
            await PlainTextResponse(" ".join(map(str, counts)))(scope, receive, send)
        else:
            await inside(scope, receive, send)

    guard.app = counting
    host.start()
    page["run"](guard, page["settings"])


if __name__ == "__main__":
    main()
