"""What a user should know of a run before it trains."""


class RunWarning(UserWarning):
    """Rows of a file that a run does not train on, or not whole; a head that its model gets."""
