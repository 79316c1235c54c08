"""Alerts of model routing are told once, under one id in every process; what workers count is told together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from apikeyrouter.domain.interfaces.state_store import StoreBatch
from apikeyrouter.muxer.guard import DRIFT_ALERT, RouteAlert, RouteBook
from apikeyrouter.testing.virtual_time import ManualClock
from apikeyrouter_proxy.alert_pace import PER_MINUTE
from apikeyrouter_proxy.audit import KINDS
from apikeyrouter_proxy.metrics import Gauges, Metrics
from apikeyrouter_proxy.metrics_board import MetricsBoard
from apikeyrouter_proxy.metrics_model_routing import counted, routing_gauges
from apikeyrouter_proxy.model_routing_alerts import MODEL_ROUTING_KINDS, ModelRoutingAlerts
from apikeyrouter_proxy.webhook_forms import slack_text

DRIFT = RouteAlert("support", "drift", "prompts for support are not what they were", value=0.31, bound=DRIFT_ALERT)


class Desk:
    """An observer with what it wrote and sent."""

    def __init__(self, clock: ManualClock) -> None:
        self.lines: list[Any] = []
        self.sent: list[tuple[str, dict[str, Any], str]] = []
        self.alerts = ModelRoutingAlerts(clock, self.write, lambda *one: self.sent.append(one))

    def write(self, batch: StoreBatch) -> None:
        self.lines += batch.events


def test_an_alert_is_a_line_and_a_webhook_with_its_numbers() -> None:
    desk = Desk(ManualClock())
    desk.alerts.model_routing_alert(DRIFT)
    ((kind, data, message_id),) = desk.sent
    assert kind == "model_routing.drift"
    assert message_id.startswith("msg_")
    (line,) = desk.lines
    assert (line.kind, line.entity_id, line.document) == (kind, "support", data)
    assert (data["group"], data["value"], data["bound"]) == ("support", 0.31, DRIFT_ALERT)
    assert data["message"] in slack_text(kind, "now", data)


def test_every_alert_that_a_book_can_raise_has_a_kind_that_the_event_log_knows() -> None:
    desk = Desk(ManualClock())
    for kind in ("drift", "quality"):
        for over in (False, True):
            desk.alerts.model_routing_alert(RouteAlert("support", kind, "told", over))
    assert [kind for kind, _, _ in desk.sent] == list(MODEL_ROUTING_KINDS)
    assert set(MODEL_ROUTING_KINDS) <= set(KINDS)


def test_workers_give_one_alert_one_id_and_the_next_one_another() -> None:
    clock = ManualClock()
    here, there = Desk(clock), Desk(clock)
    for desk in (here, there):
        desk.alerts.model_routing_alert(DRIFT)
    clock.advance(3_600.0)
    here.alerts.model_routing_alert(DRIFT)
    ids = [message_id for _, _, message_id in here.sent]
    assert there.sent[0][2] == ids[0] != ids[1]


def test_a_flood_is_counted_not_told() -> None:
    clock = ManualClock()
    desk = Desk(clock)
    for _ in range(PER_MINUTE + 5):
        desk.alerts.model_routing_alert(DRIFT)
    assert len(desk.sent) == PER_MINUTE
    clock.advance(60.0)
    desk.alerts.model_routing_alert(DRIFT)
    assert desk.sent[-1][1]["alerts_not_sent"] == 5


def test_what_workers_routed_is_told_together_by_whichever_is_asked(tmp_path: Path) -> None:
    workers = [Metrics(MetricsBoard(tmp_path, name)) for name in ("one", "two")]
    books = [RouteBook("default"), RouteBook("default")]
    for number, (worker, book) in enumerate(zip(workers, books, strict=True), start=1):
        for _ in range(number):
            book.saw(0.4, strong=False, chosen_usd=0.001, reference_usd=0.01)
        book.saw(0.9, strong=True, chosen_usd=0.01, reference_usd=0.01)
        book.saw(0.2, strong=False, chosen_usd=0.001, reference_usd=0.01, shadow=True)
        book.passed_over(0.003, 0.0)
        worker.model_routing_alert(DRIFT)
        worker.share(Gauges(model_routing=routing_gauges({book.group: book})))
    for worker, book in zip(workers, books, strict=True):
        row = counted(worker.together(Gauges(model_routing=routing_gauges({book.group: book}))))["default"]
        assert (row.weak, row.strong) == (3, 2)
        assert round(row.reference_usd - row.chosen_usd, 9) == 0.027
        assert (row.shadow_weak, row.shadow_strong) == (2, 0)
        assert round(row.shadow_reference_usd - row.shadow_chosen_usd, 9) == 0.018
        assert round(row.discarded_usd, 9) == 0.006
    told = workers[0].exposition(Gauges(model_routing=routing_gauges({"default": books[0]}))).decode()
    assert 'apikeyrouter_model_routing_alerts_total{group="support",kind="drift"} 2.0' in told
    assert 'apikeyrouter_model_routing_requests_total{group="default",role="strong"} 2.0' in told
