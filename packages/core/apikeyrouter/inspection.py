"""Looking at a router: its state in numbers, its models, and whether a key works."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from apikeyrouter.domain.interfaces.transport import HttpReply, TransportError
from apikeyrouter.domain.keys.eligibility import blocked
from apikeyrouter.domain.models.api_key import KeyState
from apikeyrouter.domain.resilience.classify import classify_reply, classify_transport
from apikeyrouter.domain.resilience.failures import Failure, bad_reply

if TYPE_CHECKING:
    from apikeyrouter.domain.keys.record import KeyRecord
    from apikeyrouter.router import ApiKeyRouter

__all__ = ["KeyCheck", "StateSummary", "check_key", "list_models", "summarize"]


class KeyCounts(BaseModel):
    """Keys by usability now; `by_state` counts every state."""

    total: int
    available: int
    by_state: dict[str, int]


class QuotaCounts(BaseModel):
    """`exhausted_keys`: ids of keys that have no quota or credit now."""

    exhausted_keys: list[str]


class CostCounts(BaseModel):
    """`total_spent`: US dollars settled since start. `held`: budgets held by running requests are in the budgets."""

    total_spent: Decimal


class StateSummary(BaseModel):
    """A router at one glance. `open_holds`: requests under way."""

    keys: KeyCounts
    quotas: QuotaCounts
    costs: CostCounts
    open_holds: int
    providers: list[str]


class KeyCheck(BaseModel):
    """The result of trying a key. `ok`; `detail` in words; `models`: how many the provider lists."""

    key_id: str
    ok: bool
    status: int | None = None
    detail: str
    models: int | None = None


async def summarize(router: ApiKeyRouter) -> StateSummary:
    """Counts, read in one go."""
    keys = await router.key_manager.list_keys()
    by_state: dict[str, int] = {}
    for key in keys:
        by_state[key.state.value] = by_state.get(key.state.value, 0) + 1
    now_s = router.now_s()
    usable = sum(blocked(router.key_manager.get(k.id), None, now_s) is None for k in keys)
    return StateSummary(
        keys=KeyCounts(total=len(keys), available=usable, by_state=by_state),
        quotas=QuotaCounts(exhausted_keys=[k.id for k in keys if k.state is KeyState.Exhausted]),
        costs=CostCounts(total_spent=Decimal(router.journal.spent_nano_usd).scaleb(-9)),
        open_holds=router.ledger.open_holds,
        providers=sorted(router.providers),
    )


async def check_key(router: ApiKeyRouter, key_id: str) -> KeyCheck:
    """Lists models with this key alone."""
    record = router.key_manager.get(key_id)
    found = await _models_of(router, record)
    if isinstance(found, Failure):
        return KeyCheck(key_id=key_id, ok=False, status=found.status, detail=found.message)
    return KeyCheck(key_id=key_id, ok=True, status=200, detail="The provider accepts this key.", models=len(found))


async def list_models(router: ApiKeyRouter) -> list[dict[str, Any]]:
    """Asks each provider with its first eligible key; a provider that cannot answer is left out. One row an id, as the
    first of its providers tells it; `providers` are the ids of all that list it."""
    models: dict[str, dict[str, Any]] = {}
    now_s = router.now_s()
    for provider_id in router.providers:
        for record in router.key_manager.records(provider_id):
            if blocked(record, None, now_s) is None:
                found = await _models_of(router, record)
                if not isinstance(found, Failure):
                    for model in found:
                        row = models.setdefault(model["id"], {**model, "providers": []})
                        if provider_id not in row["providers"]:
                            row["providers"].append(provider_id)
                    break
    return list(models.values())


async def _models_of(router: ApiKeyRouter, record: KeyRecord) -> list[dict[str, Any]] | Failure:
    """The models that the provider lists for a key, or why not; the key learns from either."""
    adapter = router.providers[record.provider_id].adapter
    keys = router.key_manager
    now_s = router.now_s()
    ticket = keys.begin(record, None, now_s, ahead=True)
    reply: HttpReply | None = None
    outcome: list[dict[str, Any]] | Failure
    try:
        request = adapter.build_models_request(ticket.secret, base_url=record.base_url)
        request.timeouts = router.timeouts
        request.deadline_s = now_s + router.settings.first_byte_timeout_s
        reply = await router.transport.send(request)
        body = await reply.read()
        if reply.status == 200:
            outcome = list(adapter.read_models(body))
        else:
            utc_now = router.journal.utc_now()
            outcome = classify_reply(adapter.dialect, reply.status, reply.headers, body, utc_now=utc_now)
    except TransportError as error:
        outcome = classify_transport(error)
    except ValueError as fault:
        outcome = bad_reply(str(fault), reply.status if reply is not None else None)
    except BaseException:
        keys.release(ticket)
        raise
    if isinstance(outcome, Failure):
        keys.fail(ticket, outcome, router.now_s())
    else:
        keys.succeed(ticket, router.now_s())
    return outcome
