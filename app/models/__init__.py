"""Which models the page has: what visitors may choose, and the panel in which they do."""
