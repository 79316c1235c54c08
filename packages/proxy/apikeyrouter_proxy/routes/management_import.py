"""Management API: another product's configuration as one of ours: for whoever moves here.

Laws: see `config.importing`; besides, nothing of what was sent is logged, kept or written into the audit log, and what
is made is not applied: it is a text to look at and to start with.
"""

from __future__ import annotations

import asyncio
from typing import Literal

from pydantic import BaseModel, Field

from apikeyrouter.domain.errors import ErrorCategory, SystemError
from apikeyrouter_proxy.config.importing import Kind, imported, kind_of
from apikeyrouter_proxy.routes.common import Body
from apikeyrouter_proxy.routes.late import late_router

__all__ = ["router"]

router = late_router(prefix="/api/v1/config", tags=["configuration"])

_TEXT_MAX = 1024 * 1024


class ImportBody(Body):
    """A text to translate."""

    text: str = Field(min_length=1, max_length=_TEXT_MAX, repr=False, description="The file's content.")
    kind: Literal["auto", "litellm", "llm-api-key-proxy", "llm-api-key-proxy-js"] = Field(
        "auto", description="What the text is: LiteLLM's config.yaml, LLM-API-Key-Proxy's .env or config.js."
    )


class ImportFault(BaseModel):
    """Why a text cannot be read."""

    line: int | None
    column: int | None
    message: str
    hint: str


class VariableView(BaseModel):
    """A variable that the document needs."""

    name: str
    where: str = Field(description="The member that uses it.")
    replaced: bool = Field(description="It stands for a secret that was in the text, which is not repeated.")


class ImportView(BaseModel):
    """A configuration of ours."""

    ok: bool = Field(description="False: the text could not be read; `faults` say why.")
    kind: str
    text: str = Field(description="apikeyrouter.yaml, without secrets.")
    counts: dict[str, int] = Field(description="How many providers, keys, deployments and budgets it has.")
    unmapped: list[str] = Field(description="What was left out or means something else here, by name and line.")
    variables: list[VariableView]
    faults: list[ImportFault]


@router.post("/import", summary="Translate another product's configuration")
async def import_config(body: ImportBody) -> ImportView:
    """Makes a configuration of ours from LiteLLM's or LLM-API-Key-Proxy's. References of the text stay references: no
    file and no variable of this machine is read. Secrets that stand in it are replaced by names of variables. Nothing
    is applied."""
    kind = kind_of(body.text) if body.kind == "auto" else Kind(body.kind)
    if kind is None:
        raise SystemError(
            ErrorCategory.ValidationError,
            "The text looks like neither a config.yaml of LiteLLM (it would have model_list), nor an .env of "
            "LLM-API-Key-Proxy (NAME_API_KEY=...), nor its config.js (keys: [...]). Say which with `kind`.",
            status=400,
        )
    found = await asyncio.to_thread(imported, body.text, kind)
    places = [(one.place.line, one.place.column) if one.place else (None, None) for one in found.faults]
    return ImportView(
        ok=not found.faults,
        kind=kind.value,
        text=found.text,
        counts=found.counts,
        unmapped=found.unmapped,
        variables=[
            VariableView(name=name, where=where, replaced=name in found.replaced)
            for name, where in sorted(found.variables.items())
        ],
        faults=[
            ImportFault(line=line, column=column, message=one.message, hint=one.hint)
            for one, (line, column) in zip(found.faults, places, strict=True)
        ],
    )
