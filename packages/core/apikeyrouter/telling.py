"""Telling observers: each that has a method of the event's name is called; what it raises is logged, no more."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

__all__ = ["call_all", "tell_all"]

_log = logging.getLogger("apikeyrouter")


def tell_all(observers: Iterable[object], name: str, event: object) -> None:
    """Calls `observer.<name>(event)` wherever there is such a method."""
    for observer in observers:
        tell = getattr(observer, name, None)
        if tell is None:
            continue
        try:
            tell(event)
        except Exception:  # noqa: BLE001 - whatever an observer raises is its own trouble
            _log.exception("An observer failed on %s; requests are not affected.", name)


def call_all(listeners: Iterable[Callable[..., None]], *facts: object) -> None:
    """Calls each with these facts."""
    for listener in listeners:
        try:
            listener(*facts)
        except Exception:  # noqa: BLE001 - as above
            _log.exception("A recorder failed; requests are not affected.")
