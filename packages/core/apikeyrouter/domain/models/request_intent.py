"""What a caller asks for: a model, messages, parameters.

`Message` and `RequestIntent` accept every field that a provider may know: those we do not name travel on unchanged.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

__all__ = ["Message", "RequestIntent"]


class Message(BaseModel):
    """One turn of a conversation, in OpenAI's shape.

    `role`: system, developer, user, assistant, tool or function. `content`: text, a list of content parts, or None (an
    assistant turn that only calls tools). Other fields (`tool_calls`, `tool_call_id`, `name` ...) travel as given.
    """

    model_config = ConfigDict(extra="allow")

    role: str = Field(min_length=1)
    content: str | list[Any] | None = None

    def to_wire(self) -> dict[str, Any]:
        """The message as a JSON object: fields that were never set are absent, `content` is always there."""
        wire = self.model_dump(exclude_unset=True)
        wire.setdefault("content", self.content)
        return wire


class RequestIntent(BaseModel):
    """A request before anybody decided who serves it.

    `model`: the provider's model name, optionally as `provider/model`. `messages`: at least one. `parameters`: what the
    provider's API takes beside model and messages (`temperature`, `max_tokens`, `tools` ...), passed through whole.
    `provider_id`: serve from this provider only; None: inferred from the model. It never travels upstream.
    `timeout_s`: the most seconds this request may take in all; None: the router's setting.
    Raises pydantic's ValidationError (a ValueError) when malformed.
    """

    model_config = ConfigDict(extra="forbid")

    model: str = Field(min_length=1, max_length=256)
    messages: list[Message] = Field(min_length=1)
    parameters: dict[str, Any] = Field(default_factory=dict)
    provider_id: str | None = None
    timeout_s: float | None = Field(default=None, gt=0)

    @field_validator("parameters")
    @classmethod
    def _reserved_names_stay_out(cls, parameters: dict[str, Any]) -> dict[str, Any]:
        for name in ("model", "messages", "provider_id"):
            if name in parameters:
                raise ValueError(f"parameters must not contain {name!r}: it is a field of RequestIntent itself")
        return parameters

    def to_wire(self) -> dict[str, Any]:
        """The request body in OpenAI's chat completions shape."""
        return {"model": self.model, "messages": [m.to_wire() for m in self.messages], **self.parameters}
