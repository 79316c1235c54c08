"""The simulated provider for the proxies of these tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.sim import Sim, sim_process


@pytest.fixture(scope="session")
def sim_server() -> Iterator[Sim]:
    """One for all."""
    with sim_process() as sim:
        yield sim
