"""The routes that OpenAI's clients know, and a server for them without the page."""
