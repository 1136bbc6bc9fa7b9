"""Fixtures that start studios."""

import pytest
from live_studio import Studio


@pytest.fixture
def studio(tmp_path):
    """Start studios; they are stopped at the end."""
    started = []

    def start(*arguments: object, **options) -> Studio:
        started.append(Studio(tmp_path, *arguments, **options))
        return started[-1]

    yield start
    for one in started:
        one.stop()
