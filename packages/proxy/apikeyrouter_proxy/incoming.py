"""One request as it came in, and the call that it becomes.

Main entries: `Incoming`, and `Intake`, which reads headers: who asks, under which objective and policy, in which
session, with which tags. Law: what a caller says of itself never goes before what its key says.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, MutableMapping
from typing import Any

from apikeyrouter.domain.models.call import Call, Operation, Peek
from apikeyrouter.domain.models.model_choice import ModelWish
from apikeyrouter.domain.routing.objectives import Objective
from apikeyrouter.meter import RESERVED_TAGS
from apikeyrouter.opening import leaves_model
from apikeyrouter.router import ApiKeyRouter
from apikeyrouter_proxy.principal import Principal
from apikeyrouter_proxy.wire.endpoints import Target
from apikeyrouter_proxy.wire.errors import WireError
from apikeyrouter_proxy.wire.headers import upstream_headers

__all__ = ["Incoming", "Intake", "policy_of"]

_TAGS_MAX, _TAGS_LENGTH_MAX = 8, 512
_SESSION_HEADERS = (b"x-session-affinity", b"x-session-id", b"session-id", b"x-claude-code-session-id")
_SESSION_LENGTH_MAX = 128
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{8,128}")
_WORDS = {
    b"true": True,
    b"1": True,
    b"yes": True,
    b"on": True,
    b"false": False,
    b"0": False,
    b"no": False,
    b"off": False,
}
_JSON = b"application/json"


@dataclasses.dataclass(slots=True)
class Incoming:
    """A request. `scope`: ASGI's. `headers`: in lower case, the last of each name. `body`: decoded, whole."""

    target: Target
    scope: MutableMapping[str, Any]
    headers: Mapping[bytes, bytes]
    principal: Principal
    body: bytes

    @property
    def query(self) -> str:
        """What stands behind the "?", without credentials."""
        text: bytes = self.scope.get("query_string", b"")
        return text.decode("latin-1") if text else ""

    @property
    def content_type(self) -> bytes:
        """As the caller said; JSON where it said nothing, or what curl says by itself."""
        given = self.headers.get(b"content-type", b"")
        return _JSON if not given or given.startswith(b"application/x-www-form-urlencoded") else given


class Intake:
    """Makes calls and objectives of requests. `drop_params`: what holds for requests that do not say."""

    def __init__(self, router: ApiKeyRouter, *, drop_params: bool) -> None:
        self._router = router
        self._drop_params = drop_params

    def call(
        self, request: Incoming, operation: Operation, peeked: Peek, body: bytes | None = None, **fields: Any
    ) -> Call:
        """The call. `body`: instead of the request's; `fields`: of `Call`. Raises WireError 400, 403."""
        headers, principal = request.headers, request.principal
        given_id = headers.get(b"x-request-id") or headers.get(b"x-client-request-id")
        query = request.scope.get("query_string")
        if query and "query" not in fields:
            fields["query"] = query.decode("latin-1")
        call = self._router.new_call(
            operation,
            request.body if body is None else body,
            peeked,
            headers=upstream_headers(request.scope["headers"]),
            request_id=given_id.decode() if given_id and _REQUEST_ID.fullmatch(given_id) else None,
            tags=_tags(headers, principal),
            session=_session(headers),
            tenant=principal.tenant,
            drop_params=self._drops(headers),
            **fields,
        )
        if call.model.startswith("auto") and leaves_model(self._router, call):
            call.wish = _wish(headers, principal, call.model)
        else:
            principal.check_model(call.model)
        return call

    def objective(self, headers: Mapping[bytes, bytes], principal: Principal) -> Objective:
        """`x-akr-objective` names one; `x-akr-keys` (ids or labels, comma-separated), `x-akr-max-cost` (US dollars for
        the request at the most) and the caller's own scope narrow who may serve."""
        name = headers.get(b"x-akr-objective")
        objective = self._router.objective(name.decode("latin-1") if name else None)
        keys = headers.get(b"x-akr-keys")
        if keys:
            allowed = frozenset(part.strip() for part in keys.decode("latin-1").split(",") if part.strip())
            objective = dataclasses.replace(objective, allowed_keys=allowed)
        if principal.providers is not None:
            objective = dataclasses.replace(objective, allowed_providers=principal.providers)
        most = headers.get(b"x-akr-max-cost")
        if most is not None:
            objective = dataclasses.replace(objective, max_cost_usd=_dollars(most))
        return objective

    def _drops(self, headers: Mapping[bytes, bytes]) -> bool:
        """Whether `x-akr-drop-params` lets parameters be left out that a provider does not know."""
        given = headers.get(b"x-akr-drop-params")
        if given is None:
            return self._drop_params
        word = _WORDS.get(given.strip().lower())
        if word is None:
            raise WireError(400, "The header x-akr-drop-params must be true or false.", code="invalid_header")
        return word


def _tags(headers: Mapping[bytes, bytes], principal: Principal) -> Mapping[str, Any]:
    """Who asks, and `x-akr-tags` (name=value, comma-separated): what the caller says of itself never goes before what
    its key says."""
    given = headers.get(b"x-akr-tags")
    if not given:
        return principal.tags
    pairs = [part.partition("=") for part in given.decode("latin-1")[:_TAGS_LENGTH_MAX].split(",")]
    tags = {name.strip(): value.strip() for name, _, value in pairs if name.strip() and value.strip()}
    for name in RESERVED_TAGS:
        tags.pop(name, None)
    return {**dict(list(tags.items())[:_TAGS_MAX]), **principal.tags}


def _wish(headers: Mapping[bytes, bytes], principal: Principal, asked: str) -> ModelWish:
    """How a model is to be chosen. A key that may use the name `auto` may use what its group chooses; any other one
    only the models that it may name itself."""
    name = headers.get(b"x-akr-strategy")
    models = None if principal.may_use(asked) else principal.models
    return ModelWish(strategy=name.decode("latin-1").strip() or None if name else None, models=models)


def _dollars(given: bytes) -> float:
    """Raises WireError 400."""
    try:
        amount = float(given)
    except ValueError:
        amount = -1.0
    if not 0.0 <= amount < float("inf"):
        raise WireError(400, "The header x-akr-max-cost must be US dollars, such as 0.01.", code="invalid_header")
    return amount


def policy_of(headers: Mapping[bytes, bytes]) -> str | None:
    """`x-akr-policy` names one more policy for this request; it only ever narrows who may serve."""
    name = headers.get(b"x-akr-policy")
    return name.decode("latin-1").strip() or None if name else None


def _session(headers: Mapping[bytes, bytes]) -> str:
    """The client's own name for a conversation, by the headers that clients really send; "" without one."""
    for name in _SESSION_HEADERS:
        value = headers.get(name)
        if value:
            return value[:_SESSION_LENGTH_MAX].decode("latin-1")
    return ""
