"""How fast the engine is on this machine, beside other ways to write: `python -m engine.bench --preset cpu`."""
