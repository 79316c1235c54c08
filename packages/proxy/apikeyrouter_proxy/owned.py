"""What lives in one provider account: files, batches and stored responses. Only the key that made it can reach it.

Main entry: `Owned.plan`: it pins a request to that key, and remembers what a reply made. Laws: a thing that nobody here
has made, or whose key is gone, is refused by name, never looked for elsewhere; lists show what everybody made, so only
administrators see them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from apikeyrouter.domain.cost.usage import Usage, usage_of_openai
from apikeyrouter.domain.cost.usage_replies import usage_of_reply
from apikeyrouter.domain.models.call import Call, Operation, Peek, Wire
from apikeyrouter.domain.routing.objectives import Objective
from apikeyrouter.later_charges import LaterCharges
from apikeyrouter.pinning import Owner, Pins
from apikeyrouter.router import ApiKeyRouter
from apikeyrouter.sending import Reply
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

    def __init__(self, router: ApiKeyRouter, intake: Intake, pins: Pins) -> None:
        self._router = router
        self._intake = intake
        self._pins = pins
        self._later = LaterCharges(router)

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
            plan.charge = lambda reply: self._charge(call, thing_id, reply)
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
        if method not in ("GET", "POST") or reply.body[:1] != b"{":
            return
        try:
            made = msgspec.json.decode(reply.body, type=_Made)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return
        scored = reply.taken.scored
        if not thing_id and made.id:
            self._pins.learn(kind, made.id, scored.provider_id, scored.key_id)
        if kind == "batch":
            for file_id in _given(getattr(made, name) for name in _RESULTS):
                self._pins.learn("file", file_id, scored.provider_id, scored.key_id)

    async def _charge(self, call: Call, batch_id: str, reply: Reply) -> None:
        """A batch that is over tells what it used: charged once, to whoever looks first (of those who may). What tells
        no usage is not charged: batches of OpenAI from before 2025-09-07, and of servers without that member. Those of
        Anthropic are charged when their results are read, line by line."""
        found = _results(reply.body) if call.path.endswith("/results") else _usage_of_batch(reply.body)
        scored = reply.taken.scored
        for number, (model, usage) in enumerate(found):
            thing = f"{batch_id}/{number}" if number else batch_id
            await self._later.book("batch", thing, (scored.provider_id, scored.key_id), model, usage, call.tags or {})


class _Batch(msgspec.Struct, gc=False):
    """OpenAI's batch object: `model` and `usage` (https://platform.openai.com/docs/api-reference/batch/object, read
    2026-11-21)."""

    status: str = ""
    model: str = ""


_OVER = frozenset(("completed", "expired", "cancelled", "failed"))


def _usage_of_batch(body: bytes) -> list[tuple[str, Usage]]:
    """What a batch used, once it is over: by the price of the tier "batch", where the price list has it (half of the
    standard one at OpenAI and Anthropic)."""
    try:
        batch = msgspec.json.decode(body, type=_Batch)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return []
    usage = usage_of_openai(body) if batch.status in _OVER and batch.model else None
    if usage is None or not usage.total_tokens:
        return []
    usage.service_tier = "batch"
    return [(batch.model, usage)]


def _results(body: bytes) -> list[tuple[str, Usage]]:
    """What the lines of Anthropic's results used, summed up by model (a `message` in each `result`, https://
    platform.claude.com/docs/en/api/retrieving-message-batch-results, read 2026-11-21), models in order of name."""
    sums: dict[str, Usage] = {}
    for line in body.splitlines():
        try:
            message = msgspec.json.decode(line)["result"]["message"]
            model = message["model"]
            usage = usage_of_reply("api.anthropic.com", message)
        except (msgspec.MsgspecError, UnicodeDecodeError, LookupError, TypeError):
            continue
        if usage is None or not isinstance(model, str):
            continue
        known = sums.setdefault(model, Usage(service_tier="batch"))
        for name in _SUMMED:
            setattr(known, name, getattr(known, name) + getattr(usage, name))
    return sorted(sums.items())


_SUMMED = (
    "input_tokens", "output_tokens", "cached_input_tokens", "cache_write_tokens", "cache_write_1h_tokens",
    "reasoning_tokens",
)  # fmt: skip


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
