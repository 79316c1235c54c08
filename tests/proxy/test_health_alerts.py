"""Alerts about keys and breakers: told once per trouble, in both forms of a body, and by a running proxy."""

from __future__ import annotations

import json
import re
import threading
from random import Random
from typing import Any

import pytest

from apikeyrouter.domain.errors import ConfigurationError
from apikeyrouter.domain.interfaces.state_store import StateQuery, StoreBatch
from apikeyrouter.domain.models.events import KeyMoved
from apikeyrouter.domain.resilience.breaker import RAMP_S, Breaker, Phase
from apikeyrouter.domain.routing.provider import Provider
from apikeyrouter.infrastructure.adapters.openai_adapter import OpenAIAdapter
from apikeyrouter.infrastructure.state_store.memory_store import MemoryStateStore
from apikeyrouter.testing.virtual_time import ManualClock
from apikeyrouter_proxy.alert_pace import PER_MINUTE
from apikeyrouter_proxy.health_alerts import CALM_S, HealthAlerts, breaker_gauges, is_open
from apikeyrouter_proxy.settings import ProxySettings
from apikeyrouter_proxy.webhook_forms import Form, body_of
from apikeyrouter_proxy.webhook_target import read_target
from apikeyrouter_proxy.webhooks import Webhooks
from tests.support.receiver import new_secret, receiver
from tests.support.server import run_proxy
from tests.support.sim import Sim

MODEL = "gpt-4o-mini"
CHAT = {"model": MODEL, "messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 5}


class Sent:
    """What was told, and to whom."""

    def __init__(self, clock: ManualClock) -> None:
        self.hooks: list[tuple[str, dict[str, Any], str]] = []
        self.lines: list[StoreBatch] = []
        self.alerts = HealthAlerts(clock, self.lines.append, lambda *one: self.hooks.append(one))

    @property
    def kinds(self) -> list[str]:
        return [kind for kind, *_ in self.hooks]


def moved(**changes: Any) -> KeyMoved:
    fields = {
        "key_id": "key_1", "label": "openai-1", "provider_id": "openai", "from_state": "available",
        "to_state": "invalid", "cause": "auth_rejected", "until_s": None,
    }  # fmt: skip
    return KeyMoved(**{**fields, **changes})


def provider() -> Provider:
    return Provider("openai", OpenAIAdapter())


def trip(breaker: Breaker, clock: ManualClock) -> None:
    while breaker.phase is not Phase.Open:
        breaker.fail(clock.monotonic_s(), breaker.begin(clock.monotonic_s(), "a"), Random(1), "a")


def recover(breaker: Breaker, clock: ManualClock) -> None:
    """Two good probes, and an attempt after the ramp."""
    clock.advance(3.0)
    for _ in range(2):
        breaker.succeed(clock.monotonic_s(), breaker.begin(clock.monotonic_s(), "a"), "a")
    clock.advance(RAMP_S)


def test_a_breaker_is_told_when_it_opens_and_after_a_calm_minute() -> None:
    clock, one = ManualClock(), provider()
    sent = Sent(clock)
    breaker = one.breaker(MODEL)
    sent.alerts.look([one])
    assert sent.kinds == []
    trip(breaker, clock)
    for _ in range(3):
        sent.alerts.look([one])
    assert sent.kinds == ["breaker.opened"]
    recover(breaker, clock)
    sent.alerts.look([one])
    assert not is_open(breaker, clock.monotonic_s())
    assert sent.kinds == ["breaker.opened"]
    clock.advance(CALM_S)
    sent.alerts.look([one])
    assert sent.kinds == ["breaker.opened", "breaker.closed"]
    _, data, _ = sent.hooks[1]
    assert (data["provider_id"], data["model"], data["trips"]) == ("openai", MODEL, 1)
    assert [line.events[0].kind for line in sent.lines] == sent.kinds


def test_a_breaker_that_flaps_is_one_alert() -> None:
    clock, one = ManualClock(), provider()
    sent = Sent(clock)
    for _ in range(20):
        trip(one.breaker(MODEL), clock)
        sent.alerts.look([one])
        recover(one.breaker(MODEL), clock)
        sent.alerts.look([one])
    assert sent.kinds == ["breaker.opened"]
    assert breaker_gauges([one], clock.monotonic_s())[0].is_open is False


def test_one_process_gives_no_two_alerts_one_id_and_two_processes_give_the_same() -> None:
    clock, one = ManualClock(), provider()
    here, there = Sent(clock), Sent(clock)
    for _ in range(5):
        trip(one.breaker(MODEL), clock)
        for sent in (here, there):
            sent.alerts.look([one])
        recover(one.breaker(MODEL), clock)
        clock.advance(CALM_S)
        for sent in (here, there):
            sent.alerts.look([one])
    ids = [message_id for *_, message_id in here.hooks]
    assert len(ids) == len(set(ids)) == 10
    assert ids == [message_id for *_, message_id in there.hooks]


def test_a_key_is_told_when_it_becomes_invalid_and_for_nothing_else() -> None:
    sent = Sent(ManualClock())
    sent.alerts.key_moved(moved())
    sent.alerts.key_moved(moved(from_state="invalid"))
    sent.alerts.key_moved(moved(to_state="throttled"))
    ((kind, data, _),) = sent.hooks
    assert kind == "key.invalid"
    assert data["label"] == "openai-1"
    assert sent.lines == []  # its change of state is in the event log already


def test_a_storm_is_cut_and_the_next_alert_says_how_many_were_not_told() -> None:
    clock = ManualClock()
    sent = Sent(clock)
    for number in range(PER_MINUTE + 7):
        sent.alerts.key_moved(moved(key_id=f"key_{number}"))
    assert len(sent.hooks) == PER_MINUTE
    clock.advance(61)
    sent.alerts.key_moved(moved(key_id="later"))
    assert sent.hooks[-1][1]["alerts_not_sent"] == 7


def test_gauges_are_bounded_and_open_ones_come_first() -> None:
    clock, one = ManualClock(), provider()
    for number in range(300):
        one.breaker(f"model-{number:03}" + "x" * 200)
    trip(one.breaker("zzz"), clock)
    found = breaker_gauges([one], clock.monotonic_s())
    assert len(found) == 200
    assert (found[0].model, found[0].is_open, found[1].is_open) == ("zzz", True, False)
    assert max(len(gauge.model) for gauge in found) == 128


# -- Slack ------------------------------------------------------------------------------------------------------------

KEY_DATA = {"provider_id": "openai", "label": "a", "cause": "auth_rejected"}
BREAKER_DATA = {"provider_id": "openai", "model": MODEL, "trips": 2, "lasted_s": 12.5}
BUDGET_DATA = {
    "budget_id": "b1", "scope_id": "search", "mode": "hard", "percent": 80, "limit": "10", "spent": "8", "overrun": "1",
    "window": "2026-11",
}  # fmt: skip
QUOTA_DATA = {
    "pool_id": "openai/a", "limit_name": "requests per minute", "models": MODEL, "remaining": 3, "limit": 60,
    "keys": ["a"], "outlook": "runs dry in 68 s",
}  # fmt: skip


def slack(kind: str, data: dict[str, Any]) -> str:
    body = json.loads(body_of(Form.Slack, kind, "2026-11-21T10:00:00Z", data))
    assert list(body) == ["text"]
    text: str = body["text"]
    return text


@pytest.mark.parametrize(
    ("kind", "data", "told"),
    [
        ("key.invalid", KEY_DATA, "`openai` refuses the key `a`"),
        ("breaker.opened", BREAKER_DATA, "its breaker opened for `gpt-4o-mini`"),
        ("breaker.closed", BREAKER_DATA, "after 12.5 s"),
        ("budget.threshold", BUDGET_DATA, "80 % of the budget `b1` of `search` are spent:* $8 of $10"),
        ("budget.overrun", BUDGET_DATA, "overrun by $1"),
        ("quota.runs_dry", QUOTA_DATA, "runs dry in 68 s"),
        ("quota.dry", QUOTA_DATA, "is dry"),
        ("quota.all_clear", QUOTA_DATA, "is fine again"),
        ("webhook.test", {"message": "This is a test."}, "This is a test."),
        ("something.new", {"a": 1}, "`something.new`: a `1`"),
    ],
)
def test_every_event_is_a_sentence_in_slack(kind: str, data: dict[str, Any], told: str) -> None:
    assert told in slack(kind, data)


def test_names_from_outside_make_no_mention_link_or_markup_in_slack() -> None:
    text = slack("key.invalid", {**KEY_DATA, "label": "<!channel> & `*x*`\n<https://evil.example|click>"})
    assert "<" not in text
    assert ">" not in text
    assert "\n" not in text
    assert text.count("`") % 2 == 0
    assert "&lt;!channel&gt; &amp; '*x*'" in text


def test_slacks_own_host_is_recognised_and_needs_no_secret() -> None:
    faults: list[str] = []
    found = read_target("https://hooks.slack.com/services/T/B/x", "", allow_private=False, faults=faults)
    assert (faults, found and found.form, found and found.secrets) == ([], Form.Slack, ())
    found = read_target("https://hooks.slack.com.evil.example/", new_secret(), allow_private=False, faults=faults)
    assert found is not None
    assert found.form is Form.Standard
    assert faults == []


def test_the_form_may_be_chosen_and_a_wrong_one_is_refused() -> None:
    env = {"HOME": "/", "APIKEYROUTER_WEBHOOK_URL": "https://example.com/", "APIKEYROUTER_WEBHOOK_FORMAT": "Slack"}
    read = ProxySettings.from_environ(env)
    assert read.webhook is not None
    assert read.webhook.form is Form.Slack
    with pytest.raises(ConfigurationError, match="APIKEYROUTER_WEBHOOK_FORMAT: expected standard or slack"):
        ProxySettings.from_environ({**env, "APIKEYROUTER_WEBHOOK_FORMAT": "teams"})


async def test_slacks_form_is_signed_when_there_is_a_secret_and_kept_as_every_webhook() -> None:
    from apikeyrouter.infrastructure.clock import SystemClock

    faults: list[str] = []
    store = MemoryStateStore()
    with receiver() as there:
        there.fail(500)
        for secret in (new_secret(), ""):
            found = read_target(there.url, secret, allow_private=False, faults=faults, form="slack")
            assert found is not None
            hooks = Webhooks(found, store, SystemClock(), Random(1))
            hooks.queue("key.invalid", KEY_DATA)
            assert hooks.pending == 1
            body = (await hooks.newest(1))[0].body
            assert "refuses the key" in json.loads(body)["text"]
            await hooks.aclose()
    assert faults == []
    assert len(await store.query_events(StateQuery("webhook.delivery"))) == 4


# -- in a proxy -------------------------------------------------------------------------------------------------------


def test_a_proxy_tells_of_a_refused_key_and_of_an_open_breaker(sim: Sim) -> None:
    faults: list[str] = []
    with receiver() as there:
        found = read_target(there.url, new_secret(), allow_private=False, faults=faults)
        with run_proxy(sim.base_url, sim.keys[:2], webhook=found) as (served, _):
            sim.fault(sim.keys[0], "revoked")
            bad = served.get("/api/v1/keys").json["data"][0]["id"]
            while served.get(f"/api/v1/keys/{bad}").json["state"] != "invalid":  # refused again after some seconds
                served.post(f"/api/v1/keys/{bad}/check")
                threading.Event().wait(0.2)
            (first,) = there.wait_for(1)
            sim.fault(None, "server_error", status=500)
            for _ in range(8):
                served.post("/v1/chat/completions", CHAT)
            _, second = there.wait_for(2)
            told = served.get("/metrics").body.decode()
            events = served.get("/api/v1/events?kind=breaker.opened").json["data"]
    sim.clear_faults()
    assert first.signed_with(new_secret())
    assert (first.json["type"], first.json["data"]["provider_id"]) == ("key.invalid", "openai")
    assert (second.json["type"], second.json["data"]["model"]) == ("breaker.opened", MODEL)
    assert re.search(r'^apikeyrouter_breaker_open\{model="gpt-4o-mini",provider="openai"\} 1.0$', told, re.MULTILINE)
    assert [event["entity_id"] for event in events] == [f"openai/{MODEL}"]
