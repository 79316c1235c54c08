"""A simulated provider in a process of its own for the module, reset before each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.sim import Sim, sim_process


@pytest.fixture(scope="module")
def sim_server() -> Iterator[Sim]:
    with sim_process() as sim:
        yield sim


@pytest.fixture
def sim(sim_server: Sim) -> Sim:
    sim_server.reset()
    sim_server.clear_faults()
    return sim_server
