"""From a `RequestIntent` to a `Call`, and the dry run that decides without sending."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import msgspec
from pydantic import ValidationError

from apikeyrouter.domain.errors import ErrorCategory, SystemError
from apikeyrouter.domain.models.call import Call, Operation, Peek, peek
from apikeyrouter.domain.models.request_intent import RequestIntent
from apikeyrouter.domain.models.routing_decision import RoutingDecision
from apikeyrouter.domain.routing.candidates import Group
from apikeyrouter.domain.routing.demand import demand_of
from apikeyrouter.domain.routing.explain import DecisionRecord
from apikeyrouter.domain.routing.objectives import Objective
from apikeyrouter.opening import leaves_model

if TYPE_CHECKING:
    from apikeyrouter.router import ApiKeyRouter

__all__ = ["call_of", "dry_run", "embedding_call", "intent_of"]


def intent_of(given: RequestIntent | Mapping[str, Any]) -> RequestIntent:
    """The intent, or one made of a mapping. Raises SystemError (ValidationError) listing every fault."""
    if isinstance(given, RequestIntent):
        return given
    try:
        return RequestIntent.model_validate(dict(given))
    except ValidationError as invalid:
        faults = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in invalid.errors(include_input=False))
        raise SystemError(ErrorCategory.ValidationError, f"The request is not usable: {faults}.", status=400) from None


def call_of(
    router: ApiKeyRouter,
    given: RequestIntent | Mapping[str, Any],
    *,
    stream: bool,
    tags: Mapping[str, Any] | None = None,
) -> Call:
    """A chat call. `stream` decides whether it streams, whatever the parameters say."""
    intent = intent_of(given)
    wire = intent.to_wire()
    wire.pop("stream", None)
    if stream:
        wire["stream"] = True
        wire["stream_options"] = {**(wire.get("stream_options") or {}), "include_usage": True}
    body, peeked = _encoded(wire)
    return router.new_call(
        Operation.Chat,
        body,
        peeked,
        provider_id=intent.provider_id,
        timeout_s=intent.timeout_s,
        tags=dict(tags or {}),  # the caller's own may change before what was used is summed up
    )


def embedding_call(router: ApiKeyRouter, wire: Mapping[str, Any], provider_id: str | None) -> Call:
    """An embeddings call. Raises SystemError (ValidationError) for what JSON cannot hold."""
    body, peeked = _encoded(wire)
    return router.new_call(Operation.Embeddings, body, peeked, provider_id=provider_id)


def _encoded(wire: Mapping[str, Any]) -> tuple[bytes, Peek]:
    try:
        body = msgspec.json.encode(wire)
        return body, peek(body)
    except (msgspec.MsgspecError, TypeError) as fault:
        raise SystemError(
            ErrorCategory.ValidationError, f"The request cannot be written as JSON: {fault}.", status=400
        ) from None


def dry_run(router: ApiKeyRouter, intent: RequestIntent, objective: Objective) -> RoutingDecision:
    """What would be decided now. The turn and the hold that choosing takes are given back."""
    call = call_of(router, intent, stream=False)
    if leaves_model(router, call):
        plan = router.muxer.plan(call, objective, counted=False)
        call, objective = plan.call, plan.objective
    objective = router.policy_engine.apply(objective, call)
    record = DecisionRecord(
        "dry_run", call.request_id, call.model, objective, at_utc_s=router.journal.utc_s(), stream=False
    )
    record.outcome = "dry_run"
    record.choice = None if call.chosen is None else call.chosen.note
    costs = router.cost_controller
    demand = demand_of(call, costs.lengths, costs.ratios)
    for group in _plan(router, call, objective):
        taken = router.chooser.choose(
            group, demand, objective, record, tried=set(), now_s=call.started_s, tags=call.tags
        )
        if taken is not None:
            taken.hold.release()
            group.gave_back(taken.candidate)
            break
        record.fallbacks = [*record.fallbacks, group.model]
    return router.journal.render(record)


def _plan(router: ApiKeyRouter, call: Call, objective: Objective) -> Iterator[Group]:
    """The model's group, and then its fallbacks, if they may stand in."""
    yield router.directory.group_for(call.provider_id, call.model)
    if objective.ruling is None or objective.ruling.fallbacks:
        yield from router.directory.fallbacks_for(call.provider_id, call.model)
        if call.chosen is not None:
            yield from router.directory.groups_of(call.chosen.stand_ins)
