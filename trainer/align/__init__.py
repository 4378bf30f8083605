"""Alignment: an SLM learns its LLM's own texts. `stage` is all of it, `texts` what it learns, `training` how."""
