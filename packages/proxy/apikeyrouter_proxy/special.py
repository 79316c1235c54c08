"""Requests that need more than the usual look at their body: what they become, before the router serves them.

Main entry: `Special.plan`. Gemini has the model in the path, uploads have it in a form, counting tokens is done here
where no provider does it, and raw paths name their provider. What belongs to one key is in `owned`.
Laws: a base URL comes from configuration alone; raw requests pass policies, quota and budgets like any other.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable
from urllib.parse import parse_qsl, urlencode

import msgspec

from apikeyrouter.domain.cost.input_bound import tight_input_bound
from apikeyrouter.domain.errors import ProviderNotRegisteredError
from apikeyrouter.domain.interfaces.provider_adapter import passes_for
from apikeyrouter.domain.models.call import Call, Operation, Peek, Wire, peek
from apikeyrouter.domain.routing.objectives import Objective
from apikeyrouter.infrastructure.adapters.base import with_member
from apikeyrouter.router import ApiKeyRouter
from apikeyrouter.sending import Reply
from apikeyrouter_proxy.incoming import Incoming, Intake
from apikeyrouter_proxy.wire.body import check
from apikeyrouter_proxy.wire.endpoints import Kind
from apikeyrouter_proxy.wire.errors import Headers, WireError
from apikeyrouter_proxy.wire.forms import is_form, read_form, with_model
from apikeyrouter_proxy.wire.raw_path import raw_path

__all__ = ["FREE_METHODS", "Plan", "Special", "narrowed", "place_of"]


@dataclasses.dataclass(slots=True)
class Plan:
    """What a request becomes. `answer`: it is answered with this, and nobody is asked. `learn`: what to remember of the
    reply; `charge`: what to charge when it tells what something else cost. `array`: the stream is wanted as a JSON
    array (Gemini)."""

    call: Call
    objective: Objective
    answer: tuple[bytes, Headers] | None = None
    learn: Callable[[Reply], None] | None = None
    charge: Callable[[Reply], Awaitable[None]] | None = None
    array: bool = False


class Special:
    """Plans requests that are not plain."""

    def __init__(self, router: ApiKeyRouter, intake: Intake) -> None:
        self._router = router
        self._intake = intake

    def plan(self, request: Incoming) -> Plan:
        """See `Plan`. Raises WireError, and SystemError when nobody is registered for the model."""
        target = request.target
        if target.kind is Kind.Raw:
            return self._raw(request)
        if target.kind is Kind.Count:
            return self._count(request)
        if target.kind is Kind.Native:
            return self._native(request)
        if target.model and target.wire is not Wire.Gemini and not is_form(request.content_type):
            return self._deployment(request)
        if target.form and is_form(request.content_type):
            return self._form(request)
        if target.form:
            return self._plan(request, self._json_of_form(request))
        return self._gemini(request)

    def _plan(self, request: Incoming, call: Call) -> Plan:
        return Plan(call, self._intake.objective(request.headers, request.principal))

    # -- where the model stands elsewhere ---------------------------------------------------------------------------

    def _gemini(self, request: Incoming) -> Plan:
        """The model and whether it streams stand in the path."""
        target = request.target
        call = self._of_path(request)
        plan = self._plan(request, call)
        asked = dict(parse_qsl(request.query, keep_blank_values=True))
        plan.array = target.streams and asked.get("alt", "json") != "sse"
        return plan

    def _of_path(self, request: Incoming) -> Call:
        target = request.target
        peeked = check(target.operation, request.body)
        peeked.stream = target.streams
        query = urlencode([pair for pair in parse_qsl(request.query, keep_blank_values=True) if pair[0] != "alt"])
        call = self._intake.call(request, target.operation, peeked, model=target.model, query=query)
        peeked.model = call.model
        if target.path:
            call.path = target.path  # the adapter knows how it writes the model's name in there
        return call

    def _deployment(self, request: Incoming) -> Plan:
        """Azure's way: the path names the model, whatever the body says, and the query a version of the API, which
        means nothing to others."""
        target = request.target
        try:
            body = with_member(request.body, "model", target.model)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            body = request.body  # whose fault is told next
        query = urlencode([one for one in parse_qsl(request.query, keep_blank_values=True) if one[0] != "api-version"])
        call = self._intake.call(request, target.operation, check(target.operation, body), body, query=query)
        return self._plan(request, call)

    def _form(self, request: Incoming) -> Plan:
        """A multipart form: it passes as it is, but for a provider's prefix in the model's name."""
        form = read_form(request.body, request.content_type)
        model = form.values.get("model", "").strip()
        if not model:
            raise WireError(400, "The form has no field 'model'.", code="missing_required_parameter", param="model")
        peeked = Peek(model=model, stream=form.streams or None)
        call = self._intake.call(request, request.target.operation, peeked, content_type=request.content_type)
        if call.model != form.values["model"]:
            call.body = with_model(request.body, form, call.model)
        peeked.model = call.model
        return self._plan(request, call)

    def _json_of_form(self, request: Incoming) -> Call:
        """What is usually a form, sent as JSON."""
        if not request.content_type.startswith(b"application/json"):
            raise WireError(
                415, "Send this as multipart/form-data, with the model in the field 'model'.", code="invalid_form"
            )
        peeked = check(request.target.operation, request.body)
        if not peeked.model:
            raise WireError(
                400, "The field 'model' is missing or empty.", code="missing_required_parameter", param="model"
            )
        return self._intake.call(request, request.target.operation, peeked)

    # -- where a provider must have the very endpoint ---------------------------------------------------------------

    def _native(self, request: Incoming) -> Plan:
        target = request.target
        call = self._intake.call(request, target.operation, check(target.operation, request.body), path=target.path)
        who = self._offering(call)
        if not who:
            raise WireError(
                400,
                f"No provider of the model {call.model!r} has /v1/{target.path}. Choose a model of a provider that has "
                "it.",
                code="unsupported_operation",
                param="model",
            )
        plan = self._plan(request, call)
        plan.objective = narrowed(plan.objective, who)
        return plan

    def _count(self, request: Incoming) -> Plan:
        """By the provider where it counts tokens itself, free of charge; else by our own estimate."""
        target = request.target
        if target.operation is Operation.GeminiCountTokens:
            call = self._of_path(request)
        else:
            call = self._intake.call(request, target.operation, check(target.operation, request.body), path=target.path)
        call.peek.stream = False
        call.free = True
        plan = self._plan(request, call)
        try:
            who = self._offering(call)
        except ProviderNotRegisteredError:
            who = frozenset()
        if who:
            plan.objective = narrowed(plan.objective, who)
        else:
            plan.answer = _counted(target.wire, self._estimate(call)), _ESTIMATED
        return plan

    def _estimate(self, call: Call) -> int:
        """Likely input tokens, by what providers counted for texts like these."""
        bound = tight_input_bound(call.body, call.model)
        ratios = self._router.cost_controller.ratios
        likely = ratios.expected(call.provider_id or "", call.model, bound.content_bytes) + bound.media_tokens
        return max(1, min(likely, bound.tokens))

    def _offering(self, call: Call) -> frozenset[str]:
        """Providers of the model that have the operation themselves."""
        group = self._router.directory.group_for(call.provider_id, call.model)
        adapters = {(one.provider.provider_id, one.model): one.provider.adapter for one in group.candidates}
        return frozenset(name for (name, model), one in adapters.items() if passes_for(one, call.operation, model))

    # -- raw --------------------------------------------------------------------------------------------------------

    def _raw(self, request: Incoming) -> Plan:
        """Any path of one provider. The model, for prices and limits, is that of the body or the path, else that of
        the header `x-akr-model`."""
        target = request.target
        provider = self._router.directory.require(target.provider_id or "")
        path = raw_path(_asked(request), provider.provider_id, provider.adapter.base_url)
        peeked = _peeked(request.body)
        told = peeked.model or _model_in(path)
        _check_scope(request, told)
        model = told or request.headers.get(b"x-akr-model", b"").decode("latin-1").strip() or place_of(path)
        peeked.model = model
        wants = request.headers.get(b"accept", b"")
        if b"text/event-stream" in wants or "alt=sse" in request.query or ":stream" in path:
            peeked.stream = True
        call = self._intake.call(
            request,
            Operation.Raw,
            peeked,
            provider_id=provider.provider_id,
            model=model,
            method=request.scope["method"],
            path=path,
            content_type=request.headers.get(b"content-type") or request.content_type,
        )
        call.free = call.method in FREE_METHODS and provider.adapter.get_capabilities().reading_is_free
        return self._plan(request, call)


FREE_METHODS = frozenset({"GET", "HEAD", "DELETE"})
"""Reading and deleting cost nothing, where models are what is sold."""


def narrowed(objective: Objective, providers: frozenset[str]) -> Objective:
    """The objective among these providers only."""
    allowed = objective.allowed_providers
    return dataclasses.replace(objective, allowed_providers=providers if allowed is None else providers & allowed)


_ESTIMATED: Headers = [(b"x-akr-estimate", b"true")]


def _counted(wire: Wire, tokens: int) -> bytes:
    """The answer of those who count tokens, in their format."""
    if wire is Wire.Gemini:
        return msgspec.json.encode({"totalTokens": tokens})
    if wire is Wire.Responses:
        return msgspec.json.encode({"object": "response.input_tokens", "input_tokens": tokens})
    return msgspec.json.encode({"input_tokens": tokens})


def _asked(request: Incoming) -> str:
    """The path as in the request line, below the proxy's root."""
    raw: bytes = request.scope.get("raw_path") or request.scope["path"].encode()
    return raw.partition(b"?")[0].decode("latin-1")


def _peeked(body: bytes) -> Peek:
    """What a body tells, if it is JSON at all."""
    if body[:1] not in (b"{", b" ", b"\n", b"\t", b"\r"):
        return Peek()
    try:
        return peek(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return Peek()


def place_of(path: str) -> str:
    """What stands for the model where there is none: limits and refusals of one endpoint are not those of another."""
    return "/" + path.partition("/")[0]


def _model_in(path: str) -> str:
    """The model in a path such as `models/gemini-2.5-pro:generateContent`; "" for none."""
    _, found, rest = f"/{path}".partition("/models/")
    return rest.partition(":")[0].partition("/")[0] if found else ""


def _check_scope(request: Incoming, model: str) -> None:
    """Raises WireError 403 when a key that may use certain models only asks for nobody knows what. What a header says
    proves nothing."""
    if not model and request.principal.models is not None:
        raise WireError(
            403,
            "This key may use certain models only, and neither the body nor the path of this request names one.",
            code="model_not_allowed",
            param="model",
        )
