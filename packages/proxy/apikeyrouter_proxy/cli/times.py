"""Times as people read them."""

from __future__ import annotations

from datetime import datetime

__all__ = ["moment"]


def moment(timestamp: str | None) -> str:
    """An ISO time as local date and time with the zone's offset; a dash for none."""
    if not timestamp:
        return "-"
    try:
        parsed = datetime.fromisoformat(timestamp)
    except ValueError:
        return timestamp
    return parsed.astimezone().strftime("%Y-%m-%d %H:%M:%S%z")
