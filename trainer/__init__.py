"""Builds routers offline: the tiny pair, preference labels, router training, evaluation and publishing."""


class TrainerError(Exception):
    """Something the user can put right: the message names the bad value and the way out."""
