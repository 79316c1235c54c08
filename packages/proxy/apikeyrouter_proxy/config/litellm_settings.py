"""`router_settings`, `litellm_settings` and `general_settings` of LiteLLM's configuration, as members of ours.

Main entry: `Settings.read`. Law: every member either goes somewhere or is told.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from apikeyrouter_proxy.config.faults import Path
from apikeyrouter_proxy.config.litellm_tables import ONLY_TOLD, STRATEGIES, provider_id_of

__all__ = ["Settings"]

_SECTIONS = ("router_settings", "litellm_settings", "general_settings")
_HANDLED = ("model_list", "credential_list", "environment_variables", "include", *_SECTIONS)
_ADMIN_KEY_LENGTH_MIN = 12
_PERIODS = {"1h": "hourly", "24h": "daily", "1d": "daily", "7d": "weekly", "1w": "weekly", "30d": "monthly",
            "1mo": "monthly", "30days": "monthly"}  # fmt: skip


class _Target(Protocol):
    """What a translation is written to; see `from_litellm`."""

    source: dict[str, Any]
    made: Any

    def put(self, path: Path, value: Any, at: Path) -> None: ...

    def has(self, *path: str) -> bool: ...

    def tell(self, at: Path, why: str = "") -> None: ...

    def reference(self, value: Any) -> str: ...


class Settings:
    """Reads the sections beside `model_list`."""

    def __init__(self, target: _Target) -> None:
        self._to = target
        self._known: dict[str, Callable[[Any, Path], None]] = {
            "routing_strategy": self._strategy,
            "num_retries": self._retries,
            "timeout": self._timeout,
            "request_timeout": self._timeout,
            "fallbacks": lambda given, at: self._fallbacks(given, at, "fallbacks"),
            "context_window_fallbacks": lambda given, at: self._fallbacks(given, at, "context_fallbacks"),
            "default_fallbacks": self._default_fallbacks,
            "model_group_alias": self._aliases,
            "provider_budget_config": self._provider_budgets,
            "max_budget": self._budget,
            "budget_duration": self._with_budget,
            "drop_params": self._drop_params,
            "set_verbose": self._verbose,
            "json_logs": self._json_logs,
            "master_key": self._master_key,
        }

    def read(self) -> None:
        """Every section."""
        source = self._to.source
        for section in _SECTIONS:
            part = source.get(section)
            for member, given in (part if isinstance(part, Mapping) else {}).items():
                if given is None:
                    continue
                known = self._known.get(str(member))
                if known is None:
                    self._to.tell((section, str(member)), ONLY_TOLD.get(str(member), ""))
                else:
                    known(given, (section, str(member)))
        for section in source:
            if section not in _HANDLED:
                self._to.tell((str(section),))
        if source.get("include") is not None:
            self._to.put(("include",), source["include"], ("include",))

    # -- routing ----------------------------------------------------------------------------------------------------

    def _strategy(self, given: Any, at: Path) -> None:
        objective = STRATEGIES.get(str(given))
        if objective is None:
            self._to.tell(at, f"no objective does what {given!r} does; fairness holds")
        else:
            self._to.put(("objective",), objective, at)

    def _retries(self, given: Any, at: Path) -> None:
        if isinstance(given, int) and given >= 0 and not self._to.has("router", "attempts_max"):
            self._to.put(("router", "attempts_max"), min(20, given + 1), at)

    def _timeout(self, given: Any, at: Path) -> None:
        if isinstance(given, int | float) and given > 0 and not self._to.has("router", "request_timeout_s"):
            self._to.put(("router", "request_timeout_s"), given, at)

    def _fallbacks(self, given: Any, at: Path, member: str) -> None:
        for number, one in enumerate(given if isinstance(given, list) else [given]):
            if not isinstance(one, Mapping):
                self._to.tell((*at, number), "is no object of models by model")
                continue
            odd = set(one) == {"model", "fallback"}
            rows = {str(one["model"]): one["fallback"]} if odd else one
            for name, listed in rows.items():
                names = [str(each) for each in (listed if isinstance(listed, list) else [listed])]
                if name == "*":
                    self._default_fallbacks(names, (*at, number))
                    continue
                names = [each for each in dict.fromkeys(names) if each != name]
                if names:
                    self._to.put(("deployments", str(name), member), names, (*at, number))

    def _default_fallbacks(self, given: Any, at: Path) -> None:
        listed = [str(one) for one in (given if isinstance(given, list) else [given])]
        for name, part in self._to.made.tree.get("deployments", {}).items():
            names = [one for one in listed if one != name]
            if names and "fallbacks" not in part:
                self._to.put(("deployments", name, "fallbacks"), names, at)

    def _aliases(self, given: Any, at: Path) -> None:
        deployments = self._to.made.tree.get("deployments", {})
        for alias, meant in (given if isinstance(given, Mapping) else {}).items():
            named = meant.get("model") if isinstance(meant, Mapping) else meant
            names = [str(one) for one in (named if isinstance(named, list) else [named])]
            missing = [name for name in names if name not in deployments]
            if missing:
                self._to.tell((*at, str(alias)), f"model_list has no {missing[0]!r}")
            elif len(names) == 1:
                self._to.put(("aliases", str(alias)), names[0], (*at, str(alias)))
            else:
                targets = [target for name in names for target in deployments[name].get("targets", [])]
                self._to.put(("deployments", str(alias), "targets"), targets, (*at, str(alias)))

    # -- money ------------------------------------------------------------------------------------------------------

    def _budget(self, given: Any, at: Path) -> None:
        duration = (self._to.source.get(str(at[0])) or {}).get("budget_duration")
        self._limit("all", {"limit": given}, duration, at)

    def _with_budget(self, given: Any, at: Path) -> None:
        """It goes with `max_budget`."""
        if (self._to.source.get(str(at[0])) or {}).get("max_budget") is None:
            self._to.tell(at, f"{given!r} is the period of no budget")

    def _provider_budgets(self, given: Any, at: Path) -> None:
        for name, part in (given if isinstance(given, Mapping) else {}).items():
            provider_id = provider_id_of(str(name))
            here: Path = (*at, str(name))
            if provider_id is None or not isinstance(part, Mapping):
                self._to.tell(here, "is no provider that is known here")
                continue
            limit = part.get("budget_limit", part.get("max_budget"))
            duration = part.get("time_period", part.get("budget_duration"))
            self._limit(provider_id, {"limit": limit, "scope": "provider", "scope_id": provider_id}, duration, here)

    def _limit(self, name: str, budget: dict[str, Any], duration: Any, at: Path) -> None:
        period = "total" if duration is None else _PERIODS.get(str(duration).strip().lower())
        if period is None:
            self._to.tell(at, f"no period is {duration!r} long: hourly, daily, weekly and monthly are")
            return
        self._to.put(("budgets", name), {**budget, "period": period}, at)

    # -- the proxy --------------------------------------------------------------------------------------------------

    def _drop_params(self, given: Any, at: Path) -> None:
        self._to.put(("server", "drop_params"), bool(given), at)

    def _verbose(self, given: Any, at: Path) -> None:
        if given is True or str(given).lower() == "true":
            self._to.put(("server", "log_level"), "DEBUG", at)

    def _json_logs(self, given: Any, at: Path) -> None:
        if given is True or str(given).lower() == "true":
            self._to.put(("server", "log_format"), "json", at)

    def _master_key(self, given: Any, at: Path) -> None:
        secret = self._to.reference(given)
        if "${" not in secret and len(secret) < _ADMIN_KEY_LENGTH_MIN:
            self._to.tell(at, "is too short to keep anybody out, so it is not taken: callers from this machine need no "
                          "key; set one of 12 characters or more")  # fmt: skip
            return
        self._to.put(("server", "admin_key"), secret, at)
        self._to.put(("server", "require_auth"), True, at)
