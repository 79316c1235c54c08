"""Tests of client libraries, each in an environment of its own: `make test-clients`, which runs `pytest tests/clients`.

Other runs leave this folder out, since they would have to fetch some hundred megabytes first: it is collected only when
it is asked for. Once asked for, nothing is skipped: an environment that is missing fails its tests.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.clients.places import World, serving, spent
from tests.clients.running import HERE, Place, Program


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Whether a file of this folder is left out: yes, unless the folder or something in it was named."""
    named = [Path(config.invocation_params.dir, argument.partition("::")[0]).resolve() for argument in config.args]
    asked = any(one.is_relative_to(HERE) for one in named)
    return None if asked or not collection_path.is_relative_to(HERE) else True


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with serving(tmp_path_factory.mktemp("proxy")) as made:
        yield made


@pytest.fixture(scope="session")
def spent_place(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with spent(world.sim, tmp_path_factory.mktemp("spent")) as place:
        yield place


@pytest.fixture(scope="session")
def running() -> Iterator[Callable[[str, str], Program]]:
    """Programs, each started once: `running(environment, program)`."""
    started: list[Program] = []

    @cache
    def start(environment: str, program: str) -> Program:
        started.append(Program(environment, program))
        return started[-1]

    yield start
    for one in started:
        one.close()
