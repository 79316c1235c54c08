"""What the modules of the management API share: the running proxy, lists, and strict bodies."""

from __future__ import annotations

from typing import Annotated, Generic, Literal, TypeVar

from fastapi import Depends, Request
from pydantic import BaseModel, ConfigDict, Field

from apikeyrouter_proxy.bootstrap import Proxy

__all__ = ["Body", "Page", "RunningProxy", "page_of"]

_Item = TypeVar("_Item")


async def _proxy_of(request: Request) -> Proxy:
    found: Proxy = request.app.state.proxy
    return found


RunningProxy = Annotated[Proxy, Depends(_proxy_of)]
"""The proxy that serves this request."""


class Body(BaseModel):
    """A request body: unknown fields are refused, and faults never show what was sent."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)


class Page(BaseModel, Generic[_Item]):
    """A list, in the shape of OpenAI's. `total`: how many there are, of which `data` may be a part."""

    object: Literal["list"] = "list"
    data: list[_Item]
    total: int = Field(description="How many there are in all.")


def page_of(items: list[_Item], *, limit: int | None = None, offset: int = 0) -> Page[_Item]:
    """A part of the items; all of them without a limit."""
    end = None if limit is None else offset + limit
    return Page(data=items[offset:end], total=len(items))
