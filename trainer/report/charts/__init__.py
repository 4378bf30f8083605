"""Charts of what was evaluated."""
