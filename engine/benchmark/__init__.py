"""Measurements of the engine on this machine: `python -m engine.benchmark`. Writes figures; the bars are the issue's.

`python -m engine.benchmark --preset cpu` measures the whole table in one process: every row once a round, so that what
slows the machine slows them all, and ratios are taken within a round. Read `rows.py` for what is compared, `measure.py`
for how, `bars.py` for what is asked of it. Uses the engine as anyone's script would; nothing in the engine uses it.
"""
