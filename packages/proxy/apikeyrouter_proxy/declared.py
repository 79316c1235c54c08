"""Virtual keys that the configuration file declares, beside those that the proxy issues.

Main entry: `DeclaredKey`. They are whatever text the operator chose, so that clients need not change when they move
here; they live as long as they stand in the file, in memory alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from apikeyrouter.domain.keys.secret import Secret

__all__ = ["DeclaredKey", "declared_id"]


def declared_id(name: str) -> str:
    """The id of a virtual key that the file declares: never one that was issued."""
    return f"vkf_{name}"


@dataclass(frozen=True, slots=True)
class DeclaredKey:
    """A virtual key that the file declares."""

    name: str
    secret: Secret
    role: str
    models: tuple[str, ...] | None
    providers: tuple[str, ...] | None
    team: str | None
    tags: Mapping[str, str]
    expires_at_s: float | None
    rpm: int | None
    tpm: int | None
    parallel: int | None
    weight: float

    @property
    def id(self) -> str:
        """Its id, for budgets, policies and logs."""
        return declared_id(self.name)
