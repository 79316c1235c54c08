"""A simulated provider and a proxy in front of it, each a process of its own, for the whole module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.processes import ProxyProcess, proxy_process
from tests.support.sim import Sim, sim_process


@pytest.fixture(scope="module")
def sim_server() -> Iterator[Sim]:
    with sim_process() as sim:
        yield sim


@pytest.fixture(scope="module")
def proxy_server(sim_server: Sim, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProxyProcess]:
    with proxy_process(sim_server, tmp_path_factory.mktemp("proxy")) as proxy:
        yield proxy


@pytest.fixture
def sim(sim_server: Sim) -> Sim:
    sim_server.reset()
    sim_server.clear_faults()
    return sim_server


@pytest.fixture
def fresh(sim: Sim, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProxyProcess]:
    """A proxy that no earlier test has taught anything."""
    with proxy_process(sim, tmp_path_factory.mktemp("fresh")) as proxy:
        yield proxy
