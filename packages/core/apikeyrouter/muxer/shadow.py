"""Shadow mode: requests that name a group's reference model are served as they ask, and their decision says what `auto`
would have done and saved.

Main entry: `ShadowedPipeline`, put around the pipeline where a group says `shadow: true`; elsewhere it does not exist.
Law: it changes no request and no reply; what it adds comes after the answer is there.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from apikeyrouter.domain.errors import RouterError
from apikeyrouter.domain.models.call import CONVERSATIONS, Call
from apikeyrouter.domain.routing.objectives import Objective
from apikeyrouter.muxer.groups import DEFAULT, ModelGroup

if TYPE_CHECKING:
    from apikeyrouter.muxer.front import ModelRouting
    from apikeyrouter.pipeline import Pipeline
    from apikeyrouter.sending import Reply

__all__ = ["ShadowedPipeline"]

_log = logging.getLogger("apikeyrouter")


class ShadowedPipeline:
    """A pipeline whose requests for reference models are looked at twice."""

    def __init__(self, pipeline: Pipeline, routing: ModelRouting) -> None:
        self._pipeline = pipeline
        self._routing = routing

    async def serve(self, call: Call, objective: Objective) -> Reply:
        """See `Pipeline.serve`."""
        reply = await self._pipeline.serve(call, objective)
        if call.chosen is None and call.operation in CONVERSATIONS:
            group = self._watching(call)
            if group is not None:
                self._note(call, objective, group, reply)
        return reply

    def _watching(self, call: Call) -> ModelGroup | None:
        """The group whose reference the call names."""
        for group in self._routing.groups.values():
            name = group.reference or group.members[-1].model
            provider, slash, model = name.partition("/")
            named = call.model in (name, model if slash else name)
            if group.shadow and named and (call.provider_id is None or not slash or call.provider_id == provider):
                return group
        return None

    def _note(self, call: Call, objective: Objective, group: ModelGroup, reply: Reply) -> None:
        """Adds what `auto` would have done to the decision, if it could have done anything."""
        name = "auto" if group.name == DEFAULT else f"auto/{group.name}"
        try:
            found = self._routing.shadow(call, name, objective)
            self._routing.shadowed(group, found)
        except RouterError:
            return
        except Exception:  # noqa: BLE001 - a fault of ours must not cost the caller an answer that is there
            _log.exception("Shadow mode failed for %s; the request is not affected.", group.name)
            return
        reply.record.choice = found
