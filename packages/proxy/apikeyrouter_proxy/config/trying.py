"""A configuration that comes over the API as text: what is wrong with it, or what would differ from what runs.

Main entry: `tried`. Laws: it reads no file, runs no program and no class, and follows no reference; no fault tells what
a variable of the environment holds; a reference that the running file has at the same member counts as the value that
it has there, any other as one that is right and different; so does what `masking` made of a running value, so that a
text that was shown can be tried as it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from apikeyrouter.domain.errors import ConfigurationError
from apikeyrouter_proxy.config.changes import differences, member
from apikeyrouter_proxy.config.faults import Fault, Faults, Path, dotted
from apikeyrouter_proxy.config.keeper import Reloaded, needs_restart
from apikeyrouter_proxy.config.layers import with_objects
from apikeyrouter_proxy.config.loading import Configuration, typed, written_text
from apikeyrouter_proxy.config.masking import MASK, masked
from apikeyrouter_proxy.config.meaning import meaning_of
from apikeyrouter_proxy.config.references import UNREAD, References

if TYPE_CHECKING:
    from apikeyrouter_proxy.bootstrap import Proxy

__all__ = ["tried"]


def tried(proxy: Proxy, text: str) -> tuple[Sequence[Fault], Reloaded]:
    """(every fault, what would differ)."""
    settings = proxy.config.settings
    environ: Mapping[str, str] = settings.origin.environ if settings.origin is not None else {}
    layered = proxy.config.layered
    running = layered.configuration if layered is not None else None
    faults = Faults()
    name = running.path if running is not None and running.path else "text"
    written = written_text(text, faults, name)
    references = _Known(environ, faults, running)
    found = typed(written, references, faults)
    if found is None:
        return faults.found, Reloaded()
    meaning = meaning_of(found, _names_only(environ), faults, trusted=False)
    known = _as_running(found, running)
    faults.found = [
        one
        for one in faults.found
        if one.where not in references.unsure and UNREAD not in one.message and not f"{one.where}.".startswith(known)
    ]
    if not faults.found:
        try:
            with_objects({}, meaning, valid=True)
        except ConfigurationError as error:
            faults.found += [Fault("", line) for line in error.faults]
    result = Reloaded(notes=[*found.told, *meaning.warnings])
    if not faults.found:
        result.meaning = meaning
        result.changes = differences(running, found)
        result.restart = [one.where for one in result.changes if needs_restart(one)]
    return sorted(faults.found, key=lambda one: (one.place is None, one.place, one.where)), result


def _names_only(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment with its values hidden: addresses may name any variable, and faults quote addresses."""
    return {name: UNREAD for name, value in environ.items() if value.strip()}


def _as_running(found: Configuration, running: Configuration | None) -> tuple[str, ...]:
    """How faults of providers begin that the running file has just so: those are right, classes of the operator's own
    included, which are not run here."""
    there = {} if running is None else running.file.providers
    return tuple(
        f"{dotted(('providers', name))}." for name, one in found.file.providers.items() if there.get(name) == one
    )


class _Known(References):
    """References that have a value only where the running file has the same one. `unsure`: members, and the objects
    around them, whose value is not known, so that nobody can say whether it is right."""

    def __init__(self, environ: Mapping[str, str], faults: Faults, running: Configuration | None) -> None:
        super().__init__(environ, faults, trusted=False)
        self._written: Any = {} if running is None else running.tree
        self._values: Any = {} if running is None else running.file.model_dump(exclude_unset=True)
        self.unsure: set[str] = set()

    def resolve(self, value: object, path: Path = ()) -> object:
        """See `References.resolve`."""
        if isinstance(value, str) and MASK in value:
            running = member(self._values, path)
            if isinstance(running, str) and masked(running, path) == value:
                return running
        if not isinstance(value, str) or "$" not in value:
            return super().resolve(value, path)
        if member(self._written, path) == value and (known := member(self._values, path)) is not None:
            return known
        self.unsure |= {dotted(path[:length]) for length in range(2, len(path) + 1)}
        return super().resolve(value, path)
