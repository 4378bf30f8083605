"""An LLM behind a server, asked over HTTP with token ids, while the SLM and the router stay in this process."""
