"""Whether a candidate could answer such a request at all, asked before any key is looked at.

Main entries: `needs_of`, once per request; `preflight`, for every candidate: two comparisons of integers. What a
candidate can do is worked out when its group is built (`abilities_of`). Laws: what is not known is no reason to refuse;
a context window counts only where something else could serve instead, since catalogues err and providers know.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

import msgspec

from apikeyrouter.domain.interfaces.provider_adapter import ProviderCapabilities
from apikeyrouter.domain.keys.eligibility import Block
from apikeyrouter.domain.models.call import Operation

if TYPE_CHECKING:
    from apikeyrouter.domain.routing.candidates import Candidate
    from apikeyrouter.domain.routing.demand import Demand

__all__ = ["ANY_LENGTH", "CONTEXT", "Needs", "abilities_of", "context_tokens", "needs_of", "preflight"]

CONTEXT = "context"
"""The code of a candidate whose context window is too small for the request."""

ANY_LENGTH = 2**62
"""Tokens: stands for a window that is not known or does not count."""

_OPERATIONS = {operation: 1 << place for place, operation in enumerate(Operation)}
_STREAMING, _TOOLS, _IMAGES, _STRUCTURED = (1 << place for place in range(40, 44))
_NAMES = {
    _STREAMING: "streaming",
    _TOOLS: "tools",
    _IMAGES: "images",
    _STRUCTURED: "structured output",
    **{bit: operation.value for operation, bit in _OPERATIONS.items()},
}
_EMPTY_LENGTH_MAX = 4
"""Bytes of the longest JSON that says nothing: null; also [] and {}."""

_IMAGE_PARTS = (b'"image_url"', b'"input_image"', b'"image"')


class Needs(msgspec.Struct, frozen=True, gc=False):
    """What a request asks of a candidate: `abilities` as bits, and `tokens` of context (a likely count of the input and
    the caller's cap on the output)."""

    abilities: int
    tokens: int


def needs_of(demand: Demand) -> Needs:
    """Once per request: about half a microsecond without pictures."""
    peek = demand.peek
    abilities = _OPERATIONS[demand.operation]
    if demand.streams:
        abilities |= _STREAMING
    if len(peek.tools) > _EMPTY_LENGTH_MAX:
        abilities |= _TOOLS
    if peek.response_format and b'"json' in bytes(peek.response_format):
        abilities |= _STRUCTURED
    if demand.bound.media_tokens and peek.messages is not None and _has_images(peek.messages):
        abilities |= _IMAGES
    return Needs(abilities, context_tokens(demand))


def context_tokens(demand: Demand) -> int:
    """The likely input and the caller's cap on the output, of one choice."""
    return demand.input_expected + (demand.output_limit or 0)


def _has_images(messages: list[msgspec.Raw]) -> bool:
    return any(part in text for text in map(bytes, messages) for part in _IMAGE_PARTS)


def abilities_of(can: ProviderCapabilities, without: Collection[str] = ()) -> int:
    """What a provider's model can do, as bits. `without`: what this model lacks (`deployments.ABILITIES`)."""
    abilities = sum(_OPERATIONS[operation] for operation in set(can.operations))
    for bit, name, offered in (
        (_STREAMING, "streaming", can.supports_streaming),
        (_TOOLS, "tools", can.supports_tools),
        (_IMAGES, "images", can.supports_images),
        (_STRUCTURED, "structured_output", can.supports_structured_output),
    ):
        if offered and name not in without:
            abilities |= bit
    return abilities


def preflight(candidate: Candidate, needs: Needs) -> Block | None:
    """Why the candidate cannot answer such a request ("capability", "context"), or None when it may."""
    if not needs.abilities & ~candidate.abilities and needs.tokens <= candidate.context_max:
        return None
    missing = needs.abilities & ~candidate.abilities
    if missing:
        lacking = ", ".join(name for bit, name in _NAMES.items() if missing & bit)
        who = f"{candidate.provider.provider_id}/{candidate.model}"
        return Block("capability", f"{who} does not offer {lacking}", None)
    return Block(
        CONTEXT,
        f"about {needs.tokens:,} tokens do not fit into {candidate.model}'s context of {candidate.context_max:,}",
        None,
    )
