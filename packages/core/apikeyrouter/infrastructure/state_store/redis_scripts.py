"""The Lua scripts of the Redis store: one for each transition, so that each is one step on the server.

Main entries: `GREET` (every new connection), `LEASE`, `RECOVER`, `APPLY` (everything else that writes). A script is put
together from files in `lua/`, parts before what uses them.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

__all__ = ["APPLY", "GREET", "LEASE", "RECOVER", "Script", "script_of"]

_FOLDER = Path(__file__).with_name("lua")


@dataclass(frozen=True, slots=True)
class Script:
    """A script's text, and the name by which the server remembers it."""

    text: str
    sha: str


def script_of(*parts: str, text: str = "") -> Script:
    """The script that consists of these files of `lua/`, in this order, and of `text`."""
    whole = "\n".join([*((_FOLDER / f"{part}.lua").read_text("utf-8") for part in parts), text])
    return Script(whole, hashlib.sha1(whole.encode(), usedforsecurity=False).hexdigest())


GREET = script_of("common", "greet")
LEASE = script_of("common", "amounts", "rules", "books", "lease")
RECOVER = script_of("common", "amounts", "rules", "books", "recover")
APPLY = script_of("common", "amounts", "logs", "usage", "apply")
