"""When another model may stand in, and the request as a candidate's provider must see it.

Main entries: `reason_of` (a provider's answer), `reason_of_refusals` (nobody could be taken), `call_for`. Pure.
Laws: a request that is wrong, or refused for its content, is wrong everywhere: only one that is too long for the model
goes on, to models that take more. The caller's bytes are kept but for the one member that names the model.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from enum import StrEnum
from typing import TYPE_CHECKING

import msgspec

from apikeyrouter.domain.models.call import WITHOUT_MODEL_MEMBER, Call
from apikeyrouter.domain.resilience.failures import Failure, FailureClass
from apikeyrouter.domain.routing.preflight import CONTEXT

if TYPE_CHECKING:
    from apikeyrouter.domain.routing.candidates import Candidate

__all__ = ["FallbackReason", "call_for", "reason_of", "reason_of_refusals", "with_model"]


class FallbackReason(StrEnum):
    """Why the next model is tried. Unavailable: nobody could serve it, or all failed. Context: the request is longer
    than the model takes."""

    Unavailable = "unavailable"
    Context = "context"


_CONTEXT_CODES = frozenset({"context_length_exceeded", "model_max_prompt_tokens_exceeded"})
_TOO_LONG = re.compile(
    r"maximum context length|context[ _](?:length|window)|prompt is too long|input is too long|too many input tokens"
    r"|exceeds the maximum number of tokens|input length and `max_tokens` exceed",
    re.IGNORECASE,
)
"""What providers say without a code of its own (Anthropic "prompt is too long: N tokens > M maximum" and "input length
and `max_tokens` exceed context limit", Gemini "The input token count (N) exceeds the maximum number of tokens allowed",
Bedrock "Input is too long for requested model")."""

_NEVER = frozenset({FailureClass.Policy, FailureClass.MidReply})


def reason_of(failure: Failure) -> FallbackReason | None:
    """Whether another model may be tried after this failure was the last word of a group, and as what."""
    kind = failure.failure_class
    if kind in _NEVER:
        return None
    if kind is FailureClass.Client or kind is FailureClass.TooLargeForLimit:
        if failure.code in _CONTEXT_CODES or _TOO_LONG.search(failure.message):
            return FallbackReason.Context
        return None if kind is FailureClass.Client else FallbackReason.Unavailable
    return FallbackReason.Unavailable


def reason_of_refusals(codes: Iterable[str]) -> FallbackReason:
    """Nobody of a group could be taken: too long a request, or nobody in service. `codes`: of the rejections."""
    seen = set(codes)
    return FallbackReason.Context if CONTEXT in seen and seen <= _SIZE_ONLY else FallbackReason.Unavailable


_SIZE_ONLY = frozenset({CONTEXT, "capability", "policy", "model_not_served", "disabled", "retired"})


def call_for(call: Call, candidate: Candidate) -> Call:
    """The call with the candidate's model in place of the one that was asked for; the very same one when that is it.

    Every other member of the body keeps its bytes, whatever it is; of a model that is named twice one is left. About
    6 us for 1 KB.
    """
    model = candidate.model
    return call if model == call.model else with_model(call, model)


def with_model(call: Call, model: str, *, without: str = "") -> Call:
    """The call for another model. `without`: a member of the body that is left out, since it is ours."""
    plain = call.operation in WITHOUT_MODEL_MEMBER
    if plain and (not without or f'"{without}"'.encode() not in call.body):
        return replace(call, model=model)
    members = msgspec.json.decode(call.body, type=dict[str, msgspec.Raw])
    members.pop(without, None)
    if plain:
        return replace(call, model=model, body=msgspec.json.encode(members))
    members["model"] = msgspec.Raw(msgspec.json.encode(model))
    body = msgspec.json.encode(members)
    return replace(call, model=model, body=body, peek=msgspec.structs.replace(call.peek, model=model))
