"""The guard that every request passes first, and the server. The page and `engine serve` share both."""
