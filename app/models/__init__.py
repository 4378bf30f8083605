"""Which models the page has: what visitors may choose, and the fold in which they do."""
