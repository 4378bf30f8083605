"""The one error class of the trainer that a user is meant to read."""


class TrainerError(Exception):
    """Something the user can put right: the message names the bad value and the way out."""
