"""The tab Compare: one prompt written by the SLM, by a policy and by the LLM, side by side."""
