"""Which fault fires for which request, how often, and that a seed replays it."""

from __future__ import annotations

import random

import msgspec
import pytest

from apikeyrouter.simulation.faults import CALM, Fault, FaultBook, FaultKind
from apikeyrouter.simulation.labels import NO_KEY_LABEL, key_label

CHAT = "/v1/chat/completions"


def book(*faults: Fault, seed: int = 1) -> FaultBook:
    made = FaultBook(random.Random(seed))
    for fault in faults:
        made.add(fault, now_s=0.0)
    return made


def fired(faults: FaultBook, label: str = "sim-a", now_s: float = 0.0, path: str = CHAT) -> FaultKind | None:
    instead = faults.draw(label, path, now_s).instead
    return None if instead is None else instead.kind


def test_without_faults_nothing_happens() -> None:
    assert book().draw("sim-a", CHAT, 0.0) is CALM


def test_a_counted_fault_fires_so_often_and_is_gone() -> None:
    faults = book(Fault(FaultKind.ServerError, count=2))
    assert [fired(faults) for _ in range(3)] == [FaultKind.ServerError, FaultKind.ServerError, None]
    assert faults.listing() == []


def test_a_fault_of_one_key_leaves_the_others_alone() -> None:
    faults = book(Fault(FaultKind.Revoked, key="sk-key-1"))
    assert fired(faults, key_label("sk-key-1")) is FaultKind.Revoked
    assert fired(faults, key_label("sk-key-2")) is None


def test_faults_of_the_key_come_before_those_for_all() -> None:
    faults = book(Fault(FaultKind.ServerError), Fault(FaultKind.Billing, key="sim-a", count=1))
    assert [fired(faults), fired(faults)] == [FaultKind.Billing, FaultKind.ServerError]


def test_a_fault_that_did_not_fire_keeps_its_count() -> None:
    faults = book(Fault(FaultKind.Billing, count=1), Fault(FaultKind.ServerError, count=1))
    assert [fired(faults), fired(faults), fired(faults)] == [FaultKind.Billing, FaultKind.ServerError, None]


def test_a_fault_with_a_duration_ends_by_itself_and_says_how_long_it_lasts() -> None:
    faults = book(Fault(FaultKind.RateLimited, for_s=20))
    assert faults.draw("sim-a", CHAT, 5.0).remaining_s == 15.0
    assert fired(faults, now_s=20.0) is None


def test_a_fault_may_concern_one_path_only() -> None:
    faults = book(Fault(FaultKind.ServerError, path="/embeddings"))
    assert fired(faults) is None
    assert fired(faults, path="/v1/embeddings") is FaultKind.ServerError


def test_delays_add_up_beside_a_shape_and_one_fault_that_answers() -> None:
    plan = book(
        Fault(FaultKind.LatencyS, delay_s=1),
        Fault(FaultKind.LatencyS, key="sim-a", delay_s=2),
        Fault(FaultKind.SlowFirstToken, delay_s=3),
        Fault(FaultKind.SlowTokens, delay_s=4),
        Fault(FaultKind.CutStream, after_chunks=2),
    ).draw("sim-a", CHAT, 0.0)
    assert (plan.latency_s, plan.first_token_s, plan.token_s) == (3.0, 3.0, 4.0)
    assert plan.shape is not None
    assert plan.shape.after_chunks == 2
    assert plan.instead is None


def test_chances_replay_from_the_seed_and_are_about_right() -> None:
    def run(seed: int) -> list[bool]:
        faults = book(Fault(FaultKind.ServerError, probability=0.3), seed=seed)
        return [fired(faults) is not None for _ in range(1000)]

    assert run(7) == run(7)
    assert run(7) != run(8)
    assert 230 < sum(run(7)) < 370  # 5 standard deviations of a binomial(1000, 0.3)


def test_faults_end_one_by_one_by_key_or_all_together() -> None:
    faults = book(
        Fault(FaultKind.Billing), Fault(FaultKind.Billing, key="sim-a"), Fault(FaultKind.Billing, key="sim-b")
    )
    assert faults.clear(fault_id=1) == 1
    assert faults.clear(key="sim-a") == 1
    assert [entry["key"] for entry in faults.listing()] == ["sim-b"]
    assert faults.clear() == 1


@pytest.mark.parametrize(
    "wrong", [{"probability": 1.5}, {"count": 0}, {"status": 200}, {"colour": "red"}, {"kind": "sulk"}]
)
def test_a_fault_that_makes_no_sense_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"kind": "hang", **wrong}, Fault)


def test_labels_hide_keys_that_might_be_real_and_label_themselves() -> None:
    secret = "sk-" + "s" * 20
    label = key_label(secret)
    assert secret[3:8] not in label
    assert key_label(label) == label
    assert key_label("sim-key-1") == "sim-key-1"
    assert key_label("") == NO_KEY_LABEL
    assert len({key_label(f"sk-{n}") for n in range(100)}) == 100
