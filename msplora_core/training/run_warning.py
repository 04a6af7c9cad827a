"""Warnings about a run before it trains."""


class RunWarning(UserWarning):
    """Rows of a file are left out of a training or cut, or the model gets a new head."""
