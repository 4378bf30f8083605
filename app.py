"""CITER Playground: builds the page and launches it. On a Hugging Face Space this file is what is run."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # read when gradio is imported

import engine
from app.entrance.launch import application, run
from app.page import build
from app.recorded import load_recorded
from app.running.host import Host
from engine.guard.process import prepare

prepare()
try:
    settings = engine.load_settings()
except engine.SettingsError as error:
    sys.exit(f"app.py: {error}")


def load(preset, progress):
    """The settings' pair; or a stand-in, which takes its own router and LLM, not those of the settings."""
    own = {} if preset == settings.preset else {"router": "auto", "llm_url": ""}
    # `engine.load` imports torch, so it is looked up only when the host loads: the page is there before.
    return engine.load(preset, settings.model_copy(update=own), progress)


host = Host(load, settings.preset, settings.rows)
try:
    recorded = load_recorded()
except engine.InvalidRequest as error:
    logging.getLogger("app").warning("the page begins empty: %s", error)
    recorded = None
demo = build(host, settings, recorded)

if __name__ == "__main__":
    if sys.stdout is None:
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115  # uvicorn asks it what it is
    host.start()
    try:
        run(application(demo, settings), settings)
    except engine.SettingsError as error:  # its address is taken, or none of this machine's
        sys.exit(f"app.py: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
