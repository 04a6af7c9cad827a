from __future__ import annotations

import os
from collections.abc import Iterator
from unittest.mock import patch

import pytest


@pytest.fixture(autouse=True)
def environment_of_a_command() -> Iterator[None]:
    """Commands set the threads of their process, which here is that of all tests."""
    with patch.dict(os.environ):
        yield
