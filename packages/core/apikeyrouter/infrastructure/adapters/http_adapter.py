"""Any other API that wants a key: search, scraping, weather. Its requests pass as they are; keys, limits, budgets,
failover and explanations are the same as for models.

    HttpApi(base_url="https://api.example.com/v1", key="header:X-Api-Key", usd_per_request="0.005")

Main entries: `HttpApi`, what an API is like, and `HttpApiAdapter`. Each call is an `Operation.Raw`: a method, a path
below the base URL, and a body.
Laws: the key is put where the row says, and where that is the query the URL exists in the request alone; a reply that
the success rule calls a failure is none, whatever its status says.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import ROUND_CEILING, Decimal, InvalidOperation
from typing import Any
from urllib.parse import quote

import msgspec

from apikeyrouter.domain.cost.overrides import FEES
from apikeyrouter.domain.cost.usage import Usage
from apikeyrouter.domain.errors import ConfigurationError
from apikeyrouter.domain.interfaces.price_source import Fee, ModelPrice
from apikeyrouter.domain.interfaces.provider_adapter import ProviderCapabilities
from apikeyrouter.domain.interfaces.transport import Headers, HttpRequest
from apikeyrouter.domain.keys.secret import Secret
from apikeyrouter.domain.models.call import Call, Operation, Wire
from apikeyrouter.infrastructure.adapters.base import WireAdapter
from apikeyrouter.wire.losses import UntranslatableError

__all__ = ["HttpApi", "HttpApiAdapter"]

_UNITS_MAX = 10**12
_SOURCE = "the provider's row"


class HttpApi(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an API is like.

    `base_url`: paths are below it. `key`: "bearer", "header:NAME", or "query:NAME". Queries end up in the logs of
    everything in between, so "query" also needs `query_is_fine`. `headers`: sent with each request. `ok`: a member of
    the reply and its value, as "status=OK", without which a reply with status 2xx is a failure. `unit`: what is sold,
    a name that prices know ("web_searches"); `units`: the member that tells how many a call used, as "meta.credits";
    without it each call is one. `units_max`: the most units that a call uses; hard budgets hold them, and refuse calls
    where `units` is given without it. `usd_per_request`, `usd_per_unit`: what it costs, in US dollars. `billed`: the
    member that tells the dollars that were charged. `probe`: a path that answers 2xx to a good key and costs nothing,
    to try keys with. `dialect`: how it tells limits and errors.
    """

    base_url: str
    key: str = "bearer"
    query_is_fine: bool = False
    headers: dict[str, str] = {}
    ok: str = ""
    unit: str = "web_searches"
    units: str = ""
    units_max: int = 0
    usd_per_request: str = "0"
    usd_per_unit: str = "0"
    billed: str = ""
    probe: str = ""
    dialect: str = "generic"


class HttpApiAdapter(WireAdapter):
    """See `HttpApi`. Raises ConfigurationError for a row that makes no sense."""

    def __init__(self, api: HttpApi) -> None:
        faults: list[str] = []
        self._place, _, self._name = api.key.partition(":")
        if self._place not in ("bearer", "header", "query") or bool(self._name) == (self._place == "bearer"):
            faults.append(f'key {api.key!r}: expected "bearer", "header:NAME" or "query:NAME"')
        if self._place == "query" and not api.query_is_fine:
            faults.append(
                "key: a query is logged by everything in between; say query_is_fine if the API knows no other"
            )
        self._per_request = _dollars("usd_per_request", api.usd_per_request, faults)
        self._per_unit = _dollars("usd_per_unit", api.usd_per_unit, faults)
        if not 0 <= api.units_max <= _UNITS_MAX:
            faults.append(f"units_max {api.units_max}: expected 0 (unknown) to {_UNITS_MAX}")
        if api.unit not in FEES:
            faults.append(f"unit {api.unit!r}: expected one of {', '.join(FEES)}")
        if api.ok and "=" not in api.ok:
            faults.append(f'ok {api.ok!r}: expected MEMBER=VALUE, such as "status=OK"')
        if faults:
            raise ConfigurationError(faults)
        super().__init__(
            api.base_url,
            dialect=api.dialect,
            wire=Wire.Chat,
            native={},
            headers=api.headers,
            capabilities=ProviderCapabilities(
                supports_tools=False,
                supports_images=False,
                supports_structured_output=False,
                reading_is_free=False,
                operations=(Operation.Raw,),
            ),
        )
        self.api = api

    def credentials(self, secret: Secret) -> Headers:
        """The header that carries the key; none where the query does."""
        if self._place == "header":
            return [(self._name.lower().encode(), secret.reveal_bytes())]
        return [] if self._place == "query" else super().credentials(secret)

    def build_request(self, call: Call, secret: Secret, *, base_url: str | None = None) -> HttpRequest:
        """See `ProviderAdapter.build_request`. Raises UntranslatableError for anything but raw calls."""
        if call.operation is not Operation.Raw:
            raise UntranslatableError(self.dialect, [f"{call.operation.value}: this is no API of models"])
        return self._keyed(super().build_request(call, secret, base_url=base_url), secret)

    def path_of(self, call: Call) -> str:
        """The path that the caller wrote."""
        return call.path

    def build_models_request(self, secret: Secret, *, base_url: str | None = None) -> HttpRequest:
        """The row's probe, which tells whether a key is good."""
        headers = [*self.credentials(secret), *self._headers]
        return self._keyed(HttpRequest("GET", f"{base_url or self.base_url}/{self.api.probe}", headers), secret)

    def read_models(self, body: bytes) -> Sequence[dict[str, Any]]:  # noqa: ARG002 - it has none
        """None: it has no models."""
        return []

    def read_reply(self, call: Call, body: bytes) -> tuple[bytes, Usage | None]:  # noqa: ARG002 - always raw
        """The reply as it is, with what it used. Raises ValueError when the success rule calls it a failure."""
        api = self.api
        if not (api.ok or api.units or api.billed):
            return body, Usage(counts={api.unit: 1})
        try:
            decoded = msgspec.json.decode(body)
        except msgspec.MsgspecError:
            raise ValueError("the reply is no JSON, so its success rule cannot be looked at") from None
        if api.ok:
            member, _, value = api.ok.partition("=")
            found = _member(decoded, member)
            if (found if isinstance(found, str) else msgspec.json.encode(found).decode()) != value:
                raise ValueError(f"the reply has status 2xx, but its member {member!r} is not {value!r}")
        units = _number(_member(decoded, api.units)) if api.units else None
        billed = _number(_member(decoded, api.billed)) if api.billed else None
        counts = {api.unit: Decimal(1) if units is None else units}
        return body, Usage(counts=counts, billed_nano_usd=None if billed is None else _nano(billed))

    @property
    def own_price(self) -> ModelPrice | None:
        """What the row says that a call costs: nothing where it says nothing. The operator's prices go before."""
        api = self.api
        if not self._per_unit:
            return ModelPrice(0, 0, per_request=_nano(self._per_request), source=_SOURCE)
        # six digits more, since a unit may cost less than a nano-dollar
        fee = Fee(api.unit, _nano(self._per_unit * 1_000_000), 1_000_000)
        most = (api.units_max or None) if api.units else 1
        return ModelPrice(0, 0, per_request=_nano(self._per_request), fees=(fee,), fee_units_most=most, source=_SOURCE)

    def _keyed(self, request: HttpRequest, secret: Secret) -> HttpRequest:
        if self._place == "query":
            mark = "&" if "?" in request.url else "?"
            request.url += f"{mark}{quote(self._name)}={quote(secret.reveal(), safe='')}"
        return request


def _dollars(name: str, text: str, faults: list[str]) -> Decimal:
    try:
        amount = Decimal(text)
    except InvalidOperation:
        amount = Decimal("NaN")
    if not amount.is_finite() or amount < 0:
        faults.append(f"{name} {text!r}: expected US dollars, such as 0.005")
        return Decimal(0)
    return amount


def _member(value: object, path: str) -> object:
    """A member of a decoded reply by its path, or None."""
    for step in path.split("."):
        if isinstance(value, dict):
            value = value.get(step)
        elif isinstance(value, list) and step.isdecimal() and int(step) < len(value):
            value = value[int(step)]
        else:
            return None
    return value


def _number(value: object) -> Decimal | None:
    """A count or an amount, if it is one and no nonsense."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        return None
    return number if number.is_finite() and 0 <= number <= _UNITS_MAX else None


def _nano(dollars: Decimal) -> int:
    return int((dollars * 10**9).to_integral_value(ROUND_CEILING))
