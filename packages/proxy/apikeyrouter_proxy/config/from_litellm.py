"""Placeholder replaced below."""

from __future__ import annotations

from typing import Any

from apikeyrouter_proxy.config.faults import Faults


def is_litellm(tree: dict[str, Any]) -> bool:
    return False


def translate(tree: dict[str, Any], faults: Faults) -> Any:
    return None
