"""CITER Playground: builds the page and launches it. On a Hugging Face Space this file is what is run."""

from __future__ import annotations

import os
import sys

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # read when gradio is imported
os.environ.setdefault("FORWARDED_ALLOW_IPS", "")  # for uvicorn: who asks is what the connection says

import engine
from app.page import build, host_fault, launch_options
from app.running.host import Host

try:
    settings = engine.load_settings()
except engine.SettingsError as error:
    sys.exit(f"app.py: {error}")

# `engine.load` imports torch, so it is looked up only when the host loads: the page is there before.
host = Host(lambda preset, progress: engine.load(preset, settings, progress), settings.preset, settings.rows)
demo = build(host, settings)

if __name__ == "__main__":
    host.start()
    try:
        demo.launch(**launch_options(demo, settings))
    except OSError as error:  # gradio's word for a port that is taken, and for an address that is none
        sys.exit(f"app.py: {host_fault(settings.server.host) or error}")
