"""How a webhook's body looks: the standard form, or Slack's.

Main entries: `body_of` and `form_for`. Slack's form is what incoming webhooks of Slack take, and those of Mattermost,
Rocket.Chat and Discord (at `/slack`) too: `{"text": ...}`
(https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks/, 2026-11-21). Law: what came from outside
(names, messages) cannot make links, mentions or markup there: `&`, `<` and `>` are escaped as Slack asks
(https://docs.slack.dev/messaging/formatting-message-text/, 2026-11-21), and the rest stands in code marks.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any
from urllib.parse import urlsplit

from apikeyrouter_proxy.model_routing_alerts import MODEL_ROUTING_KINDS

__all__ = ["Form", "body_of", "form_for"]

_SLACK_HOSTS = ("hooks.slack.com", "hooks.slack-gov.com")
_VALUE_LENGTH_MAX = 300

Data = Mapping[str, Any]


class Form(StrEnum):
    """Standard: type, timestamp, data. Slack: one text for people."""

    Standard = "standard"
    Slack = "slack"


def form_for(url: str, wanted: str) -> Form:
    """The form that was asked for; when none was, Slack's for Slack's own hosts. Raises ValueError."""
    if wanted:
        return Form(wanted.lower())
    return Form.Slack if (urlsplit(url).hostname or "") in _SLACK_HOSTS else Form.Standard


def body_of(form: Form, kind: str, at: str, data: Data) -> str:
    """The JSON text of an event of type `kind`. `at`: when, as ISO 8601 in UTC."""
    if form is Form.Slack:
        return json.dumps({"text": slack_text(kind, at, data)}, separators=(",", ":"))
    return json.dumps({"type": kind, "timestamp": at, "data": {**data, "at": at}}, separators=(",", ":"))


def slack_text(kind: str, at: str, data: Data) -> str:
    """One event in words: what happened in bold, then its facts."""
    say = _SENTENCES.get(kind)
    said = say(data) if say is not None else f"{_code(kind)}: {_facts(data)}"
    untold = data.get("alerts_not_sent")
    more = f" ({untold} more alerts were not sent)" if untold else ""
    return f"{_icon(kind)} {said}{more} - {at}"


def _budget(data: Data) -> str:
    return f"*{data['percent']} % of the budget {_budget_name(data)} are spent:* {_money(data)} ({data['mode']})"


def _overrun(data: Data) -> str:
    return f"*The budget {_budget_name(data)} was overrun by ${data['overrun']}:* {_money(data)}"


def _budget_name(data: Data) -> str:
    covers = f" of {_code(data['scope_id'])}" if data.get("scope_id") else ""
    return f"{_code(data['budget_id'])}{covers}"


def _money(data: Data) -> str:
    return f"${data['spent']} of ${data['limit']} in {_code(data['window'])}"


def _quota(said: str) -> Callable[[Data], str]:
    def say(data: Data) -> str:
        left = "" if data.get("remaining") is None else f", {data['remaining']} of {data['limit']} left"
        keys = ", ".join(_code(key) for key in data["keys"])
        return (
            f"*{_code(data['limit_name'])} of {_code(data['pool_id'])} {said}* "
            f"(models {_code(data['models'])}{left}; keys {keys}): {_plain(data['outlook'])}"
        )

    return say


def _key_invalid(data: Data) -> str:
    label = _code(data["label"])
    return (
        f"*{_code(data['provider_id'])} refuses the key {label}* ({_code(data['cause'])}). Replace it: "
        f"`apikeyrouter keys rotate` {label}"
    )


def _breaker(said: str) -> Callable[[Data], str]:
    def say(data: Data) -> str:
        lasted = f" after {data['lasted_s']:g} s" if "lasted_s" in data else ""
        return f"*{_code(data['provider_id'])} {said} for {_code(data['model'])}*{lasted} ({data['trips']} trips)"

    return say


def _model_routing(data: Data) -> str:
    return f"*Model routing:* {_plain(data['message'])}"


_SENTENCES: Mapping[str, Callable[[Data], str]] = {
    "budget.threshold": _budget,
    "budget.overrun": _overrun,
    "quota.runs_dry": _quota("runs dry"),
    "quota.dry": _quota("is dry"),
    "quota.all_clear": _quota("is fine again"),
    "key.invalid": _key_invalid,
    "breaker.opened": _breaker("keeps failing: its breaker opened"),
    "breaker.closed": _breaker("answers again: its breaker closed"),
    **dict.fromkeys(MODEL_ROUTING_KINDS, _model_routing),
    "webhook.test": lambda data: _plain(data["message"]),
}


_GOOD_NEWS = ("quota.all_clear", "breaker.closed", "model_routing.drift_over", "model_routing.quality_back")


def _icon(kind: str) -> str:
    if kind in _GOOD_NEWS:
        return ":white_check_mark:"
    return ":information_source:" if kind == "webhook.test" else ":warning:"


def _facts(data: Data) -> str:
    return ", ".join(f"{_plain(name)} {_code(value)}" for name, value in data.items())


def _plain(text: object) -> str:
    """Text that Slack shows as it is."""
    shown = " ".join(str(text).split())[:_VALUE_LENGTH_MAX]
    return shown.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _code(text: object) -> str:
    """Text in code marks, in which nothing else is markup."""
    return f"`{_plain(text).replace('`', chr(39)) or '-'}`"
