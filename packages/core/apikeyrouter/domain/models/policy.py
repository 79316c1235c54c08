"""Whom a policy is about."""

from __future__ import annotations

from enum import StrEnum

__all__ = ["PolicyScope"]


class PolicyScope(StrEnum):
    """What a policy covers. All but Global need a `scope_id`: a provider id, a key's id or label, a model's name or
    pattern ("gpt-4*", as requests name it), a team, or a virtual key's id."""

    Global = "global"
    PerProvider = "per_provider"
    PerKey = "per_key"
    PerRoute = "per_route"
    PerTeam = "per_team"
    PerVirtualKey = "per_virtual_key"
