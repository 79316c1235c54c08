"""Places in files, and faults with their place.

Main entries: `Place`, `Fault`, `Faults` (collects them) and `ConfigFileError`, which carries all of them.
Law: no fault repeats a value that may be a secret.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from apikeyrouter.domain.errors import ConfigurationError
from apikeyrouter_proxy.config.stamps import Stamps

__all__ = ["ConfigFileError", "Fault", "Faults", "Path", "Place", "dotted", "nearest"]

Path = tuple[str | int, ...]
"""Where in a document: names of members and numbers of entries, from its top."""


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """A spot in a file; lines and columns count from 1."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong. `where`: the member, dotted. `place`: None when it is in no file. `hint`: what to do, or ""."""

    where: str
    message: str
    place: Place | None = None
    hint: str = ""

    def __str__(self) -> str:
        spot = f"{self.place}: " if self.place is not None else ""
        where = f"{self.where}: " if self.where else ""
        return f"{spot}{where}{self.message}" + (f"; {self.hint}" if self.hint else "")


class ConfigFileError(ConfigurationError):
    """The configuration is not usable. `found`: every fault, in the order of the file. `stamps`: of what was read."""

    def __init__(self, found: Iterable[Fault], stamps: Stamps | None = None) -> None:
        self.found: Sequence[Fault] = sorted(set(found), key=lambda one: (one.place is None, one.place, one.where))
        self.stamps = stamps or Stamps()
        super().__init__([str(one) for one in self.found])


class Faults:
    """Collects faults. `places`: of values, by path; a fault is told at the nearest place that is known."""

    def __init__(self) -> None:
        self.found: list[Fault] = []
        self.places: dict[Path, Place] = {}
        self.names: dict[Path, Place] = {}

    def add(self, path: Path, message: str, hint: str = "", *, at_name: bool = False) -> None:
        """Notes one about the value at `path`; `at_name`: about the name before it."""
        self.found.append(Fault(dotted(path), message, self.place_of(path, at_name=at_name), hint))

    def place_of(self, path: Path, *, at_name: bool = False) -> Place | None:
        """The place of a value, or of the nearest one around it."""
        if at_name and path in self.names:
            return self.names[path]
        while path not in self.places:
            if not path:
                return None
            path = path[:-1]
        return self.places[path]

    def raise_any(self) -> None:
        """Raises ConfigFileError with all of them."""
        if self.found:
            raise ConfigFileError(self.found)


def dotted(path: Path) -> str:
    """`("keys", "a", "models", 0)` as people write it: `keys.a.models[0]`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def nearest(name: object, known: Iterable[str], what: str = "known are") -> str:
    """A hint: the nearest known name, or all of them when they are few."""
    names = list(known)
    close = get_close_matches(str(name), names, 1, 0.6)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"{what} {', '.join(names)}" if 0 < len(names) <= 40 else ""
