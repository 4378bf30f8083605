"""A pair for other programs: the routes that OpenAI's clients know, and a server for them."""
