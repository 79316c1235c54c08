"""Management API: virtual keys, which this proxy issues to its own clients."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import Query, Request
from pydantic import AwareDatetime, BaseModel, Field, StringConstraints, field_validator
from pydantic_core import PydanticCustomError

from apikeyrouter.domain.errors import ErrorCategory, KeyRegistrationError, SystemError
from apikeyrouter.domain.interfaces.shared_ledger import UsageQuery
from apikeyrouter.meter import RESERVED_TAGS
from apikeyrouter_proxy.budget_forms import Dollars
from apikeyrouter_proxy.principal import Role
from apikeyrouter_proxy.routes.common import Body, Page, RunningProxy, page_of
from apikeyrouter_proxy.routes.defined import Defined, Definitions
from apikeyrouter_proxy.routes.late import late_router
from apikeyrouter_proxy.spending import Sums, interval
from apikeyrouter_proxy.virtual_key_values import CallerLimits, VirtualKey

__all__ = ["router"]

router = late_router(prefix="/api/v1/virtual-keys", tags=["virtual keys"])

_LATELY_S = 86_400.0

_Pattern = Annotated[str, StringConstraints(min_length=1, max_length=128)]
_Word = Annotated[str, StringConstraints(min_length=1, max_length=128, strip_whitespace=True)]


_Name = Annotated[str, Field(min_length=1, max_length=64, description="Who or what it is for.")]
_Limit = Annotated[int, Field(ge=1, le=10**12)]
_RPM = Field(None, description="Requests that it may make in any 60 seconds; null: no limit.")
_TPM = Field(None, description="Tokens, input and output, that it may use in any 60 seconds; null: no limit.")
_PARALLEL = Field(None, description="Requests that it may have under way at once; null: no limit.")
_WEIGHT = Field(1.0, gt=0, le=1000, allow_inf_nan=False, description="Its share of capacity while requests wait.")


class _Members(Body):
    """What a new key and a change have in common."""

    models: list[_Pattern] | None = Field(
        None, min_length=1, max_length=100, description="Patterns; absent or null: every model."
    )
    providers: list[_Pattern] | None = Field(
        None, min_length=1, max_length=100, description="Ids; absent or null: every one."
    )
    team: _Word | None = Field(None, description="Whose budgets and reports count its requests; null: no team's.")
    tags: dict[_Word, _Word] = Field(
        default_factory=dict, max_length=8, description="Names and values that each of its requests carries."
    )
    expires_at: AwareDatetime | None = Field(None, description="With time zone; null: never.")
    rpm: _Limit | None = _RPM
    tpm: _Limit | None = _TPM
    parallel: _Limit | None = _PARALLEL
    weight: float = _WEIGHT

    @field_validator("team")
    @classmethod
    def _check_team(cls, team: str | None) -> str | None:
        if team is not None and not team.isprintable():
            raise PydanticCustomError("form", "must be printable")
        return team

    @field_validator("tags")
    @classmethod
    def _check_tags(cls, tags: dict[str, str]) -> dict[str, str]:
        for name, value in tags.items():
            if name in RESERVED_TAGS:
                raise PydanticCustomError(
                    "form", "'{name}' is no name for a tag; a team has a field of its own", {"name": name}
                )
            if "=" in name or not (name + value).isprintable():
                raise PydanticCustomError("form", "names and values must be printable, and names without '='")
        return tags


class NewVirtualKey(_Members):
    """A virtual key to issue."""

    name: _Name
    role: Role = Field(Role.Client, description="client: /v1 only. admin: the management API too.")


class VirtualKeyChange(_Members):
    """What to change; what is absent stays as it is, null takes a bound away. The role stays what it was."""

    name: _Name = "unchanged"


class VirtualKeyView(VirtualKey):
    """A virtual key, and where it comes from."""

    defined: Defined


class IssuedVirtualKey(VirtualKeyView):
    """A new virtual key with its plaintext, told this once."""

    key: str = Field(description="The credential. Keep it now: it is stored as a hash and cannot be shown again.")
    closes_open_mode: bool = Field(description="Whether callers needed no key until now and need one from now on.")


class VirtualKeyUse(BaseModel):
    """What a virtual key's holder used in an interval."""

    id: str
    requests: int
    failures: int = Field(description="Sends that failed, those that another key took over included.")
    input_tokens: int
    output_tokens: int
    cost: Dollars = Field(description="US dollars charged.")
    last_used_at: datetime = Field(
        description="Its newest request that this process remembers, else the start of the hour of its newest one."
    )


@router.get("", summary="List virtual keys")
async def list_virtual_keys(proxy: RunningProxy, active: bool | None = None) -> Page[VirtualKeyView]:
    """Every virtual key, oldest first; never its plaintext."""
    known = Definitions(proxy)
    return page_of([_view(known, key) for key in proxy.virtual_keys.list() if active in (None, key.active)])


@router.post("", status_code=201, summary="Issue a virtual key")
async def create_virtual_key(proxy: RunningProxy, request: Request, body: NewVirtualKey) -> IssuedVirtualKey:
    """Issues a virtual key. The first one ends open mode: from then on `/v1` needs a key."""
    _check(proxy, body.name, body.expires_at)
    was_open = proxy.access.open_mode
    key, plaintext = await proxy.virtual_keys.create(
        body.name.strip(),
        body.role,
        models=body.models,
        providers=body.providers,
        team=body.team,
        tags=body.tags,
        expires_at=body.expires_at,
        limits=CallerLimits(body.rpm, body.tpm, body.parallel, body.weight),
    )
    proxy.audit.write(request, "virtual_key.created", key.id, name=key.name, role=key.role.value)
    shown = _view(Definitions(proxy), key)
    return IssuedVirtualKey(**dict(shown), key=plaintext, closes_open_mode=was_open)


@router.get("/use", summary="What virtual keys are used for")
async def list_use(
    proxy: RunningProxy,
    since: Annotated[str, Query(max_length=64, description="7d, 12h, today, week, month, a date or a time.")] = "30d",
) -> Page[VirtualKeyUse]:
    """Requests, tokens and cost of every virtual key that was used since then, dearest first; whole hours."""
    now = proxy.clock.utc_now()
    try:
        hours = interval(since, "now", now, UTC)
    except ValueError as fault:
        raise SystemError(ErrorCategory.ValidationError, f"The request is not usable: {fault}.", status=400) from None
    proxy.router.journal.flush()
    rows = await proxy.router.cost_controller.query_spend(
        UsageQuery(since_s=hours.since.timestamp(), by=("virtual_key_id",))
    )
    sums: dict[str, Sums] = {}
    for row in rows:
        if row.virtual_key_id:
            sums.setdefault(row.virtual_key_id, Sums()).add(row)
    newest = await _last_used(proxy, sums, hours.since.timestamp(), now.timestamp())
    used = sorted(sums.items(), key=lambda item: (-item[1].cost_nano_usd, -item[1].requests, item[0]))
    return page_of([_use(key_id, one, newest[key_id]) for key_id, one in used])


@router.get("/{virtual_key_id}", summary="Show a virtual key")
async def show_virtual_key(proxy: RunningProxy, virtual_key_id: str) -> VirtualKeyView:
    """One virtual key, without its plaintext."""
    return _view(Definitions(proxy), proxy.virtual_keys.get(virtual_key_id))


@router.patch("/{virtual_key_id}", summary="Change a virtual key")
async def change_virtual_key(
    proxy: RunningProxy, request: Request, virtual_key_id: str, body: VirtualKeyChange
) -> VirtualKeyView:
    """Changes its name, models, providers, team, tags, end or limits; that holds at once, in every process within
    250 ms. What was used stays used, and stays with the team that it was used for. An end that is moved makes a key
    that expired valid again; one that was revoked stays so."""
    given = {name: getattr(body, name) for name in body.model_fields_set}
    _check(proxy, given.get("name", "unchanged"), given.get("expires_at"))
    if "name" in given:
        given["name"] = given["name"].strip()
    before, key = await proxy.virtual_keys.change(virtual_key_id, given)
    changed = {name: [_told(getattr(before, name)), _told(getattr(key, name))] for name in sorted(given)}
    proxy.audit.write(request, "virtual_key.changed", key.id, name=key.name, fields=sorted(given), changed=changed)
    return _view(Definitions(proxy), key)


@router.delete("/{virtual_key_id}", summary="Revoke a virtual key")
async def revoke_virtual_key(proxy: RunningProxy, request: Request, virtual_key_id: str) -> VirtualKeyView:
    """Ends a virtual key at once. Open mode does not come back."""
    key = await proxy.virtual_keys.revoke(virtual_key_id)
    proxy.audit.write(request, "virtual_key.revoked", key.id, name=key.name)
    return _view(Definitions(proxy), key)


def _view(known: Definitions, key: VirtualKey) -> VirtualKeyView:
    return VirtualKeyView(**dict(key), defined=known.virtual_key(key.id))


def _check(proxy: RunningProxy, name: str, expires_at: datetime | None) -> None:
    if not name.isprintable() or not name.strip():
        raise KeyRegistrationError("name: must be printable and not blank.")
    if expires_at is not None and expires_at <= proxy.clock.utc_now():
        raise KeyRegistrationError("expires_at: lies in the past. To end a key now, revoke it.")


def _told(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value


async def _last_used(proxy: RunningProxy, used: Iterable[str], since_s: float, now_s: float) -> dict[str, float]:
    """When each of these virtual keys was last used, Unix seconds. Most were within a day, which is one question; only
    the others are looked for further back, one by one, so that the answer has few rows."""
    ask = proxy.router.cost_controller.query_spend
    newest = dict.fromkeys(used, 0.0)
    lately = await ask(UsageQuery(since_s=max(since_s, now_s - _LATELY_S), by=("virtual_key_id", "hour_s")))
    for row in lately:
        if row.virtual_key_id in newest:
            newest[row.virtual_key_id] = max(newest[row.virtual_key_id], row.hour_s)
    for virtual_key_id in [one for one, at_s in newest.items() if not at_s]:
        rows = await ask(UsageQuery(since_s=since_s, by=("hour_s",), virtual_key_id=virtual_key_id))
        newest[virtual_key_id] = max((float(row.hour_s) for row in rows), default=since_s)
    for record in proxy.router.journal.records():
        if record.caller in newest:
            newest[record.caller] = max(newest[record.caller], record.at_utc_s)
    return newest


def _use(virtual_key_id: str, used: Sums, newest_s: float) -> VirtualKeyUse:
    return VirtualKeyUse(
        id=virtual_key_id,
        requests=used.requests,
        failures=used.failures,
        input_tokens=used.input_tokens,
        output_tokens=used.output_tokens,
        cost=used.cost,
        last_used_at=datetime.fromtimestamp(newest_s, UTC),
    )
