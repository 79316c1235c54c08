"""What a doctor finds: one line each, with what it means and what to do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Finding", "Tell", "fail", "ok", "warn"]


@dataclass(frozen=True, slots=True)
class Finding:
    """`level`: "ok", "warn" or "fail". `subject`: what was looked at. `advice`: what to do; empty for nothing."""

    level: str
    subject: str
    meaning: str
    advice: str = ""


Tell = Callable[..., None]
"""Takes findings as they are made."""


def ok(subject: str, meaning: str) -> Finding:
    """As it should be."""
    return Finding("ok", subject, meaning)


def warn(subject: str, meaning: str, advice: str = "") -> Finding:
    """Works, with something to know."""
    return Finding("warn", subject, meaning, advice)


def fail(subject: str, meaning: str, advice: str = "") -> Finding:
    """Does not work."""
    return Finding("fail", subject, meaning, advice)
