"""Fixtures that every folder of tests may use, and no deadline for drawn examples: busy machines need their time."""

import logging
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from tests.support.servers import postgres_server, postgres_url, redis_server, redis_url

__all__ = ["postgres_server", "postgres_url", "redis_server", "redis_url"]

settings.register_profile("ours", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("ours")

_LOGGERS = [logging.getLogger(name) for name in ("apikeyrouter", "apikeyrouter_proxy")]


@pytest.fixture(autouse=True)
def _loggers_as_they_were() -> Iterator[None]:
    """What one test sets of our loggers does not outlive it."""
    before = [(one.level, one.propagate, list(one.handlers), one.disabled) for one in _LOGGERS]
    yield
    for one, (level, propagate, handlers, disabled) in zip(_LOGGERS, before, strict=True):
        one.setLevel(level)
        one.propagate, one.handlers, one.disabled = propagate, handlers, disabled
