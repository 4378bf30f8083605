"""The tab Tune: a visitor's own prompts at many thresholds, and the operating point they pick."""
