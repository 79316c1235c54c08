"""`APIKEYROUTER_LOG_BODIES`: of which share of requests the bodies are logged, and what is said about it.

Main entries: `share_between` reads it, `told_of` warns. What is logged is made in `body_log`; this module imports
nothing, since every command reads settings.
"""

from __future__ import annotations

__all__ = ["share_between", "told_of"]


def share_between(text: str) -> float:
    """The share of requests, 0 (never) to 1 (each). Raises ValueError."""
    try:
        share = float(text)
    except ValueError:
        share = float("nan")
    if not 0.0 <= share <= 1.0:
        raise ValueError("expected a share of requests from 0 (never) to 1 (every one), such as 0.01 for 1 percent")
    return share


def told_of(share: float, log_level: str) -> tuple[str, ...]:
    """The warning of who logs bodies; none for a share of 0."""
    if not share:
        return ()
    if log_level not in ("DEBUG", "INFO"):
        return (f"APIKEYROUTER_LOG_BODIES has no effect: at LOG_LEVEL={log_level} requests are not logged.",)
    what = f"Bodies of {share * 100:.4g} % of requests are written to the log, prompts and answers included"
    return (f"{what} (APIKEYROUTER_LOG_BODIES). Set it to 0 when you have found what you look for.",)
