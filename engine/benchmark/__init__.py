"""How fast the engine is on this machine: `python -m engine.benchmark --preset cpu`.

`rows.py` says what is compared, `measure.py` how, `table.py` makes a whole run of it. It uses the
engine as anyone's script would.
"""
