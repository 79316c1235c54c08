"""Conversations that lean on what one provider account has: stored responses, and thoughts that only it can read.

Main entry: `Threads.plan`. A request that goes on from `previous_response_id` is for the key that made that response;
one that brings encrypted reasoning back is for the key that has served its session. Laws: only requests that need it
are pinned; a response whose key is gone is refused by name (409), since no other account has it.
Source: OpenAI, "Conversation state" and "Reasoning models", encrypted reasoning items (read 2026-11-21).
"""

from __future__ import annotations

import dataclasses

import msgspec

from apikeyrouter.domain.keys.record import KeyRecord
from apikeyrouter.domain.models.call import Call, Operation
from apikeyrouter.domain.routing.objectives import Objective
from apikeyrouter.pinning import Owner, Pins
from apikeyrouter.router import ApiKeyRouter
from apikeyrouter.sending import Reply
from apikeyrouter_proxy.special import Plan
from apikeyrouter_proxy.wire.errors import WireError

__all__ = ["Threads", "owner_record", "pinned"]

_BRINGS_THOUGHTS = b'"encrypted_content"'
_WANTS_THOUGHTS = b'"reasoning.encrypted_content"'


class _Made(msgspec.Struct, gc=False):
    id: str | None = None
    store: bool | None = None


_decode = msgspec.json.Decoder(_Made).decode


class Threads:
    """Pins calls of the Responses format where they need it, and remembers what replies made."""

    def __init__(self, router: ApiKeyRouter, pins: Pins) -> None:
        self._router = router
        self._pins = pins

    async def plan(self, call: Call, objective: Objective) -> Plan:
        """The call with the objective that it may be served under. Raises WireError 409."""
        return Plan(call, await self.pinned(call, objective), learn=lambda reply: self._learn(call, reply))

    async def pinned(self, call: Call, objective: Objective) -> Objective:
        """The objective with one key alone, where only that can go on. Raises WireError 409."""
        earlier = call.peek.previous_response_id
        if earlier:
            owner = await self._pins.look_up("response", earlier)
            if owner is None:
                return objective  # the provider knows it, or says that it does not
            owner_record(self._router, "response", earlier, owner)
            return pinned(self._router, objective, owner)
        session = _session(call)
        if session and _BRINGS_THOUGHTS in call.body:
            owner = await self._pins.look_up("session", session)
            if owner is not None and _record(self._router, owner) is not None:
                return pinned(self._router, objective, owner)
        return objective

    def _learn(self, call: Call, reply: Reply) -> None:
        """Remembers who has the response, if it is kept, and who serves the session, if it has thoughts of its own."""
        if not reply.taken.candidate.provider.adapter.passes(Operation.Responses):
            return
        scored = reply.taken.scored
        made = _made(reply)
        if made is not None:
            self._pins.learn("response", made, scored.provider_id, scored.key_id)
        session = _session(call)
        if session and _WANTS_THOUGHTS in call.body:
            self._pins.learn("session", session, scored.provider_id, scored.key_id)


def pinned(router: ApiKeyRouter, objective: Objective, owner: Owner) -> Objective:
    """The objective with that key alone, if the caller may use it."""
    allowed = objective.allowed_keys
    record = _record(router, owner)
    names = (owner[1], record.label) if record is not None else (owner[1],)
    keys = frozenset({owner[1]}) if allowed is None or not allowed.isdisjoint(names) else frozenset[str]()
    return dataclasses.replace(objective, allowed_keys=keys)


def owner_record(router: ApiKeyRouter, kind: str, thing_id: str, owner: Owner) -> KeyRecord:
    """The key that made a thing. Raises WireError 409 when it is gone."""
    record = _record(router, owner)
    if record is None:
        raise WireError(
            409,
            f"The {kind} {thing_id!r} lives in the account of a key of {owner[0]!r} that is no longer registered here, "
            "so it cannot be reached. Register that key again, or begin anew.",
            code="pinned_key_gone",
        )
    return record


def _record(router: ApiKeyRouter, owner: Owner) -> KeyRecord | None:
    if owner[0] not in router.providers:
        return None
    return next((one for one in router.key_manager.records(owner[0]) if one.key_id == owner[1]), None)


def _session(call: Call) -> str:
    """The name of a conversation, apart from those of other callers."""
    name = call.session or call.peek.prompt_cache_key or ""
    tenant = call.tenant.tenant_id if call.tenant is not None else ""
    return f"{tenant}/{name}" if name else ""


def _made(reply: Reply) -> str | None:
    """The id of the response that a reply begins or holds, if the provider keeps it."""
    if reply.stream is not None:
        reader = reply.stream.reader
        kept = getattr(reader, "stored", True)
        made: str | None = getattr(reader, "response_id", None)
        return made if kept else None
    try:
        told = _decode(reply.body)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    return told.id if told.store is not False else None
