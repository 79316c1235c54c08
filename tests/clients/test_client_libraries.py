"""Client libraries, unchanged and each in an environment of its own, against a running proxy before providers of three
formats. Each program's steps are asked of a model of each provider; the facts are what the library's user saw."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.clients.laws import kind_of, law_of
from tests.clients.places import MODELS, RETRY_AFTER_S, STATEFUL_MODEL, World
from tests.clients.running import ClientRaisedError, Place, Program, steps_of

Start = Callable[[str, str], Program]

CLIENTS = {
    "openai2": "openai_sdk",
    "openai3": "openai_sdk",
    "anthropic0": "anthropic_sdk",
    "anthropic2": "anthropic_sdk",
    "google_genai": "google_sdk",
    "langchain": "langchain_chat",
    "llama_index": "llama_index_chat",
    "pydantic_ai": "pydantic_agents",
    "litellm": "litellm_client",
    "instructor": "instructor_client",
    "openai_agents": "openai_agents_sdk",
}
"""Environments, and the program that each runs."""
ONCE = {"embeddings", "models", "batches", "images", "audio", "moderation"}
"""Steps that name models of their own, or none."""
STATEFUL = {"responses_chained", "responses_thinking"}
"""Steps that need a provider of Responses."""
FAILING = {"fails", "broken_stream", "bad_request"}
CHUNKS = 5


def models_of(step: str) -> Iterator[tuple[str, str]]:
    """Format and name of the models that a step is asked of."""
    if step in STATEFUL:
        yield "stateful", STATEFUL_MODEL
        return
    for provider, model in MODELS.items():
        yield provider, model
        if step in ONCE:
            return
    if step.startswith("responses"):
        yield "stateful", STATEFUL_MODEL


def cases(*, failing: str = "") -> list[Any]:
    """Every client, step and model; those of the `failing` kind, or all that succeed."""
    return list(_cases(failing))


def _cases(failing: str) -> Iterator[Any]:
    for environment, program in CLIENTS.items():
        for step in steps_of(program):
            kind = kind_of(step)
            if (kind == failing) if failing else kind not in FAILING:
                for provider, model in models_of(step):
                    yield pytest.param(environment, step, provider, model, id=f"{environment}-{step}-{provider}")


@pytest.mark.parametrize(("environment", "step", "provider", "model"), cases())
def test_a_client_gets_what_it_expects(
    environment: str, step: str, provider: str, model: str, running: Start, world: World
) -> None:
    key = f"sim-well-{provider}"
    before = world.sim.key(key)["requests"]
    program = running(environment, CLIENTS[environment])
    law_of(step)(program.ask(step, world.place, model), provider)
    if step not in ONCE:
        assert world.sim.key(key)["requests"] > before, "another provider answered"
    if kind_of(step) == "picture":
        from tests.clients.programs.facts import RED_DOT

        assert RED_DOT in world.sim.requests(key, last=1)[0]["body"], "the picture's bytes are its own"


def named(program: str, raised: ClientRaisedError) -> set[str]:
    """The classes to look at: LiteLLM has errors of its own, others may wrap those of the SDK."""
    return raised.bases if program == "litellm_client" else raised.types


@pytest.mark.parametrize(("environment", "step", "provider", "model"), cases(failing="fails"))
def test_errors_are_those_that_the_client_knows(
    environment: str, step: str, provider: str, model: str, running: Start, world: World, spent_place: Place
) -> None:
    program = running(environment, CLIENTS[environment])
    google = program.name == "google_genai"
    with pytest.raises(ClientRaisedError) as unknown:
        program.ask(step, world.place, f"{provider}/no-such-model")
    with pytest.raises(ClientRaisedError) as spent:
        program.ask(step, spent_place, model)
    found = {
        "NotFoundError": (unknown.value, 404),
        "RateLimitError": (spent.value, 429),
    }
    if provider == "openai":  # once a client: who shows many wrong keys has to wait
        with pytest.raises(ClientRaisedError) as wrong:
            program.ask(step, Place(world.place.origin, "wrong"), model)
        found["AuthenticationError"] = wrong.value, 401
    for name, (raised, status) in found.items():
        assert raised.status == status, raised
        assert ("ClientError" if google else name) in named(CLIENTS[environment], raised), raised
    assert "Try again in" in spent.value.message
    if environment != "litellm":  # it keeps no headers
        assert 1 <= int(spent.value.headers["retry-after"]) <= 1.2 * RETRY_AFTER_S


@pytest.mark.parametrize(
    ("environment", "step", "provider", "model"),
    [case for case in cases(failing="bad_request") if "gemini" not in case.id],
)
def test_a_bad_request_names_the_member(
    environment: str, step: str, provider: str, model: str, running: Start, world: World
) -> None:
    with pytest.raises(ClientRaisedError) as raised:
        running(environment, CLIENTS[environment]).ask(step, world.place, model)
    assert raised.value.status == 400
    assert "BadRequestError" in raised.value.bases
    assert "temperature" in raised.value.message


@pytest.mark.parametrize(("environment", "step", "provider", "model"), cases(failing="broken_stream"))
def test_a_stream_that_breaks_off_is_an_error_and_never_an_end(
    environment: str, step: str, provider: str, model: str, running: Start, world: World
) -> None:
    fault = world.sim.fault(f"sim-well-{provider}", "stream_error", after_chunks=CHUNKS, count=1)
    try:
        with pytest.raises(ClientRaisedError) as raised:
            running(environment, CLIENTS[environment]).ask(step, world.place, model)
    finally:
        world.sim.clear_faults(fault_id=fault)
    assert raised.value.types & {"APIError", "APIStatusError"}, raised.value
