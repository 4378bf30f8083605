"""The text as it is written, with its figures, and the feed that brings both to a browser window."""
