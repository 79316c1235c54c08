"""The part of `make test-clients` that needs no environment of its own: the SDKs of OpenAI and Anthropic as they are
installed here, each as a program, against models of three formats. All of it: tests/clients."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.clients.laws import law_of
from tests.clients.places import MODELS, World, serving
from tests.clients.running import ClientRaisedError, Place, Program

STEPS = {
    "openai_sdk": ["stream", "tools_streamed", "structured", "responses_stream", "responses_tools", "picture"],
    "anthropic_sdk": ["stream", "tools_streamed", "structured", "thinking"],
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with serving(tmp_path_factory.mktemp("proxy")) as made:
        yield made


@pytest.fixture(scope="module", params=list(STEPS))
def program(request: pytest.FixtureRequest) -> Iterator[Program]:
    running = Program("", request.param)
    yield running
    running.close()


@pytest.mark.parametrize("provider", MODELS)
def test_an_sdk_gets_what_it_expects_from_every_format(program: Program, world: World, provider: str) -> None:
    for step in STEPS[program.name]:
        law_of(step)(program.ask(step, world.place, MODELS[provider]), provider)


@pytest.mark.parametrize("provider", MODELS)
def test_an_sdk_raises_what_it_knows(program: Program, world: World, provider: str) -> None:
    with pytest.raises(ClientRaisedError) as unknown:
        program.ask("fails", world.place, f"{provider}/no-such-model")
    assert (unknown.value.status, "NotFoundError" in unknown.value.bases) == (404, True)
    with pytest.raises(ClientRaisedError) as wrong:
        program.ask("fails", Place(world.place.origin, "wrong"), MODELS[provider])
    assert (wrong.value.status, "AuthenticationError" in wrong.value.bases) == (401, True)


def test_a_program_that_is_missing_its_environment_fails_and_is_not_skipped() -> None:
    with pytest.raises(AssertionError, match="scripts/clients no-such-client"):
        Program("no-such-client", "openai_sdk")
