"""Management API: the configuration: what counts and where it comes from, trying a text, reading the file again.

Objects of the file are shown in their own lists too, and cannot be changed through the API: `file_law` refuses that
with 409 and says where in the file they stand. Laws: no answer holds a secret; a text that is tried reads no file and
runs nothing.
"""

from __future__ import annotations

from typing import Any

from fastapi import Request
from pydantic import BaseModel, Field

from apikeyrouter_proxy.config.changes import Change
from apikeyrouter_proxy.config.faults import Fault
from apikeyrouter_proxy.config.keeper import Reloaded
from apikeyrouter_proxy.config.shown import effective, objects
from apikeyrouter_proxy.config.trying import tried
from apikeyrouter_proxy.routes.common import Body, RunningProxy
from apikeyrouter_proxy.routes.late import late_router

__all__ = ["router"]

router = late_router(prefix="/api/v1/config", tags=["configuration"])


class ValueView(BaseModel):
    """A value that counts. `at`: which variable, or where in which file. `shadowed`: where else it is said."""

    where: str
    value: Any
    source: str = Field(description="argument, environment, .env, file or default.")
    at: str
    shadowed: str


class ConfigView(BaseModel):
    """The configuration in force."""

    name: str = Field(description="What it is called where several share a store.")
    path: str | None = Field(description="The file; None without one.")
    files: list[str] = Field(description="It and those that it includes.")
    settings: list[ValueView]
    objects: list[ValueView] = Field(description="Keys, budgets and so on of the file, as they are written.")
    restart: list[str] = Field(description="Members that were changed and count after the next start only.")
    warnings: list[str]


class ChangeView(BaseModel):
    """A difference between two configurations; values are masked."""

    where: str
    what: str = Field(description="added, removed or changed.")
    before: str
    after: str
    text: str


class FaultView(BaseModel):
    """What is wrong, and where."""

    file: str | None
    line: int | None
    column: int | None
    where: str
    message: str
    hint: str
    text: str


class TextBody(Body):
    """A configuration to try."""

    text: str = Field(max_length=8 * 1024 * 1024, description="The file's content, as YAML.")


class CheckedView(BaseModel):
    """Whether the text could be used, and what would differ from what runs."""

    ok: bool
    faults: list[FaultView]
    changes: list[ChangeView]
    restart: list[str]
    notes: list[str]


class ReloadedView(BaseModel):
    """What a reload did."""

    changes: list[ChangeView]
    done: list[str] = Field(description="What became of keys and budgets in the store.")
    restart: list[str] = Field(description="Members that count after the next start only.")
    notes: list[str]


@router.get("", summary="Show the configuration")
async def show_config(proxy: RunningProxy) -> ConfigView:
    """What counts, where it comes from, and the objects of the file; secrets are masked."""
    keeper = proxy.config
    known = keeper.layered.configuration if keeper.layered is not None else None
    return ConfigView(
        name=keeper.name,
        path=known.path or None if known is not None else None,
        files=list(known.files) if known is not None else [],
        settings=[ValueView(**_fields(one)) for one in effective(keeper.settings)],
        objects=[ValueView(**_fields(one)) for one in objects(keeper.settings)],
        restart=keeper.restart,
        warnings=list(keeper.settings.warnings),
    )


@router.post("/check", summary="Try a configuration")
async def check_config(proxy: RunningProxy, body: TextBody) -> CheckedView:
    """Says what is wrong with a text, or what would differ if it were the file; changes nothing. References are not
    followed: a secret counts as the same while its reference is the same."""
    faults, found = tried(proxy, body.text)
    if found.meaning is not None:
        found.notes += await proxy.config.clashes(found.meaning)
    return CheckedView(ok=not faults, faults=[_fault(one) for one in faults], **_told(found, done=False))


@router.post("/reload", summary="Read the configuration again")
async def reload_config(proxy: RunningProxy, request: Request) -> ReloadedView:
    """Reads file, `.env` and what references lead to, and applies the difference whole, in every process. When
    something is wrong nothing changes, and the answer (400) names every fault with its line."""
    found = await proxy.config.reload()
    proxy.audit.write(request, "config.reloaded", proxy.config.name, changes=[str(one) for one in found.changes][:100])
    return ReloadedView(**_told(found))


def _told(found: Reloaded, *, done: bool = True) -> dict[str, Any]:
    told: dict[str, Any] = {"changes": [_change(one) for one in found.changes], "restart": found.restart}
    told["notes"] = found.notes
    return {**told, "done": found.done} if done else told


def _change(one: Change) -> ChangeView:
    return ChangeView(where=one.where, what=one.what, before=one.before, after=one.after, text=str(one))


def _fault(one: Fault) -> FaultView:
    place = one.place
    spot = (None, None, None) if place is None else (place.file, place.line, place.column)
    return FaultView(
        file=spot[0], line=spot[1], column=spot[2], where=one.where, message=one.message, hint=one.hint, text=str(one)
    )


def _fields(one: Any) -> dict[str, Any]:
    return {name: getattr(one, name) for name in ("where", "value", "source", "at", "shadowed")}
