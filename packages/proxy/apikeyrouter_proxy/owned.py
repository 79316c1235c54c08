"""What lives in one provider account: files, batches and stored responses. Only the key that made it can reach it.

Main entry: `Owned.plan`: it pins a request to that key, and remembers what a reply made. Laws: a thing that nobody here
has made, or whose key is gone, is refused by name, never looked for elsewhere; lists show what everybody made, so only
administrators see them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from apikeyrouter.domain.models.call import Call, Operation, Peek, Wire
from apikeyrouter.domain.routing.objectives import Objective
from apikeyrouter.pinning import Owner, Pins
from apikeyrouter.router import ApiKeyRouter
from apikeyrouter.sending import Reply
from apikeyrouter_proxy.batch_watch import BatchWatch
from apikeyrouter_proxy.incoming import Incoming, Intake
from apikeyrouter_proxy.principal import Role
from apikeyrouter_proxy.special import FREE_METHODS, Plan, place_of
from apikeyrouter_proxy.threads import owner_record, pinned
from apikeyrouter_proxy.wire.errors import WireError

__all__ = ["Owned"]

_MADE_WITH = "input_file_id"
_RESULTS = ("output_file_id", "error_file_id")


class _Made(msgspec.Struct, gc=False):
    id: str | None = None
    output_file_id: str | None = None
    error_file_id: str | None = None


class Owned:
    """Plans requests about things."""

    def __init__(self, router: ApiKeyRouter, intake: Intake, pins: Pins, batches: BatchWatch) -> None:
        self._router = router
        self._intake = intake
        self._pins = pins
        self._batches = batches

    async def plan(self, request: Incoming) -> Plan:
        """See `Plan`. Raises WireError 400, 403, 404, 409."""
        target, method = request.target, request.scope["method"]
        kind, thing_id = target.thing
        objective = self._intake.objective(request.headers, request.principal)
        if thing_id:
            owner = await self._owner(kind, thing_id, request)
        elif method == "POST":
            owner = await self._maker(kind, request)
        else:
            owner = self._listed(request, objective)
        provider_id, key_id = owner
        call = self._intake.call(
            request,
            Operation.Raw,
            Peek(model=place_of(target.path), stream="stream=true" in request.query or None),
            provider_id=provider_id,
            method=method,
            path=target.path,
            content_type=request.content_type,
            free=method in FREE_METHODS or thing_id != "" or kind == "file",
        )
        if key_id:
            objective = pinned(self._router, objective, owner)
        plan = Plan(call, objective, learn=lambda reply: self._learn(kind, thing_id, method, reply))
        if kind == "batch" and thing_id and method == "GET":
            plan.charge = lambda reply: self._batches.charge(thing_id, call.path, reply, call.tags or {})
        elif kind == "batch" and not thing_id and method == "POST":
            plan.charge = lambda reply: self._made(call, reply)
        return plan

    # -- whose it is ------------------------------------------------------------------------------------------------

    async def _owner(self, kind: str, thing_id: str, request: Incoming) -> Owner:
        """Raises WireError 404 for what nobody here has made, 409 for what nobody can reach any more."""
        owner = await self._pins.look_up(kind, thing_id)
        if owner is None:
            known = self._only_key(request)
            if known is None:
                raise _unknown(kind, thing_id)
            return known
        owner_record(self._router, kind, thing_id, owner)
        return owner

    async def _maker(self, kind: str, request: Incoming) -> Owner:
        """Who shall make it: for a batch of a file, whoever has the file; else any key of the provider."""
        if kind == "batch" and request.target.wire is not Wire.Messages:
            file_id = _member(request.body, _MADE_WITH)
            if not file_id:
                raise WireError(
                    400,
                    f"The field {_MADE_WITH!r} is missing: upload a file with /v1/files first.",
                    code="missing_required_parameter",
                    param=_MADE_WITH,
                )
            return await self._owner("file", file_id, request)
        return self._provider(request), ""

    def _listed(self, request: Incoming, objective: Objective) -> Owner:
        """A list is that of one account: of the only key, or of the one that `x-akr-keys` names."""
        if request.principal.role is not Role.Admin:
            raise WireError(
                403,
                "The list shows what every user of the account made, so this key may not see it. Ask for one thing by "
                "its id, or use an admin key.",
                code="not_allowed",
            )
        provider_id = self._provider(request)
        records = self._router.key_manager.records(provider_id)
        wanted = objective.allowed_keys
        if wanted is not None:
            records = [one for one in records if one.key_id in wanted or one.label in wanted]
        if len(records) != 1:
            raise WireError(
                400,
                f"Each key of {provider_id!r} has a list of its own, and {len(records)} keys are meant: name one in "
                "the header x-akr-keys.",
                code="ambiguous_key",
            )
        return provider_id, records[0].key_id

    def _only_key(self, request: Incoming) -> Owner | None:
        """When the provider has one key only, everything is in its account."""
        try:
            provider_id = self._provider(request)
        except WireError:
            return None
        records = self._router.key_manager.records(provider_id)
        return (provider_id, records[0].key_id) if len(records) == 1 else None

    def _provider(self, request: Incoming) -> str:
        """The provider that the path implies or `x-akr-provider` names; "openai", or the only one that there is."""
        providers = self._router.providers
        named = request.headers.get(b"x-akr-provider", b"").decode("latin-1").strip() or request.target.provider_id
        if named:
            return self._router.directory.require(named).provider_id
        if "openai" in providers and self._router.key_manager.records("openai"):
            return "openai"
        having = [name for name in providers if self._router.key_manager.records(name)]
        if len(having) != 1:
            raise WireError(
                400,
                "Which provider is meant? Name it in the header x-akr-provider; registered are: "
                f"{', '.join(sorted(providers)) or 'none'}.",
                code="ambiguous_provider",
            )
        return having[0]

    # -- what it made -----------------------------------------------------------------------------------------------

    def _learn(self, kind: str, thing_id: str, method: str, reply: Reply) -> None:
        """Remembers the ids in a reply: of what was made, and of the files with a batch's results."""
        made = _read(reply.body) if method in ("GET", "POST") else None
        if made is None:
            return
        scored = reply.taken.scored
        if not thing_id and made.id:
            self._pins.learn(kind, made.id, scored.provider_id, scored.key_id)
        if kind == "batch":
            for file_id in _given(getattr(made, name) for name in _RESULTS):
                self._pins.learn("file", file_id, scored.provider_id, scored.key_id)

    async def _made(self, call: Call, reply: Reply) -> None:
        """A batch was made: it is charged when it is over, whoever looks."""
        made, scored = _read(reply.body), reply.taken.scored
        if made is not None and made.id:
            await self._batches.made(made.id, call.path, (scored.provider_id, scored.key_id), call.tags or {})


def _read(body: bytes) -> _Made | None:
    if body[:1] != b"{":
        return None
    try:
        return msgspec.json.decode(body, type=_Made)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def _given(ids: Iterable[str | None]) -> list[str]:
    return [one for one in ids if one]


def _member(body: bytes, name: str) -> str:
    """A text of a JSON object; "" for none. Raises WireError 400 when it is no JSON object."""
    try:
        members = msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise WireError(400, "The request body is no JSON object.", code="invalid_json") from None
    found = members.get(name)
    return found if isinstance(found, str) else ""


def _unknown(kind: str, thing_id: str) -> WireError:
    return WireError(
        404,
        f"There is no {kind} {thing_id!r} here: it was not made through this proxy, or too long ago. Make it through "
        "this proxy, so that it is known which key it belongs to.",
        code="not_found",
    )
