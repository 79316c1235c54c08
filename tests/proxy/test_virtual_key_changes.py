"""What a virtual key may do is changed after it was issued, over HTTP and by the command line, in every process."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.support.command import run_cli
from tests.support.processes import ProxyProcess, proxy_process
from tests.support.sim import Sim, sim_process

ADMIN = "admin-" + "c" * 20
AS_ADMIN = {"x-api-key": ADMIN}
KEYS = "/api/v1/virtual-keys"
HEARD_WITHIN_S = 5.0


@pytest.fixture(scope="module")
def provider() -> Iterator[Sim]:
    with sim_process() as sim:
        yield sim


@pytest.fixture(scope="module")
def two(provider: Sim, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProxyProcess]:
    env = {"APIKEYROUTER_ADMIN_KEY": ADMIN, "PROXY_WORKERS": "2"}
    with proxy_process(provider, tmp_path_factory.mktemp("two"), env=env) as proxy:
        yield proxy


def issue(proxy: ProxyProcess, name: str = "app", **fields: Any) -> dict[str, Any]:
    status, made, _ = proxy.ask("POST", KEYS, {"name": name, **fields}, AS_ADMIN)
    assert status == 201, made
    told: dict[str, Any] = made
    return told


def change(proxy: ProxyProcess, key: dict[str, Any], **fields: Any) -> tuple[int, Any]:
    return proxy.ask("PATCH", f"{KEYS}/{key['id']}", fields, AS_ADMIN)[:2]


def chat(proxy: ProxyProcess, key: dict[str, Any], model: str = "gpt-4o-mini") -> int:
    body = {"model": model, "messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 5}
    return proxy.ask("POST", "/v1/chat/completions", body, {"authorization": f"Bearer {key['key']}"})[0]


def soon(proxy: ProxyProcess, key: dict[str, Any], model: str, status: int) -> None:
    """Both workers answer so before long, and go on to."""
    until_s = time.monotonic() + HEARD_WITHIN_S
    pause = threading.Event()
    in_a_row = 0
    while in_a_row < 8:
        in_a_row = in_a_row + 1 if chat(proxy, key, model) == status else 0
        if not in_a_row:
            pause.wait(0.05)  # twenty wrong keys a minute would slow the administrator down, too
        assert time.monotonic() < until_s, f"{model} is not answered with {status} everywhere"


def audited(proxy: ProxyProcess, key: dict[str, Any]) -> dict[str, Any]:
    """The one change of a key that the audit log has, which is written a moment after the change."""
    until_s = time.monotonic() + HEARD_WITHIN_S
    pause = threading.Event()
    while True:
        path = f"/api/v1/events?kind=admin.virtual_key.changed&entity_id={key['id']}"
        events: list[dict[str, Any]] = proxy.get(path, AS_ADMIN)[1]["data"]
        if events:
            (event,) = events
            return event
        assert time.monotonic() < until_s, "the change is not in the audit log"
        pause.wait(0.05)


def test_changes_of_one_key_that_meet_are_all_kept(two: ProxyProcess) -> None:
    key = issue(two)
    end = (datetime.now(UTC) + timedelta(days=3)).isoformat()
    wanted: dict[str, Any] = {
        "name": "renamed",
        "models": ["gpt-4o*"],
        "providers": ["openai"],
        "team": "red",
        "tags": {"cost": "7"},
        "rpm": 40,
        "tpm": 50_000,
        "parallel": 6,
        "weight": 2.5,
        "expires_at": end,
    }
    with ThreadPoolExecutor(len(wanted)) as at_once:
        answers = list(at_once.map(lambda item: change(two, key, **dict([item])), wanted.items()))
    assert [status for status, _ in answers] == [200] * len(wanted), answers
    kept = two.get(f"{KEYS}/{key['id']}", AS_ADMIN)[1]
    assert datetime.fromisoformat(kept.pop("expires_at")) == datetime.fromisoformat(wanted.pop("expires_at"))
    assert {name: kept[name] for name in wanted} == wanted


def test_models_of_a_key_are_changed_in_every_worker_while_it_is_used(two: ProxyProcess) -> None:
    key = issue(two, models=["gpt-4o*"])
    assert (chat(two, key), chat(two, key, "gpt-4.1")) == (200, 403)
    status, changed = change(two, key, models=["gpt-4.1*"])
    assert (status, changed["models"], changed["name"], changed["team"]) == (200, ["gpt-4.1*"], "app", None)
    soon(two, key, "gpt-4.1", 200)
    soon(two, key, "gpt-4o-mini", 403)
    assert change(two, key, models=None)[1]["models"] is None
    soon(two, key, "gpt-4o-mini", 200)


def test_a_keys_team_and_tags_count_from_the_next_request_on(two: ProxyProcess) -> None:
    key = issue(two, name="mover", team="old")
    assert chat(two, key) == 200
    assert change(two, key, team="new", tags={"feature": "search"})[1]["tags"] == {"feature": "search"}
    soon(two, key, "gpt-4o-mini", 200)
    rows = two.get("/api/v1/spend?since=today&by=team", AS_ADMIN)[1]["data"]
    requests = {row["team"]: row["requests"] for row in rows}
    assert requests["old"] >= 1
    assert requests["new"] >= 1
    assert change(two, key, team=None)[1]["team"] is None


def test_the_end_of_a_key_is_moved_and_an_expired_one_is_valid_again(two: ProxyProcess) -> None:
    key = issue(two, expires_at=(datetime.now(UTC) + timedelta(seconds=1.5)).isoformat())
    soon(two, key, "gpt-4o-mini", 401)
    moved = (datetime.now(UTC) + timedelta(days=30)).isoformat()
    assert change(two, key, expires_at=moved)[1]["active"] is True
    soon(two, key, "gpt-4o-mini", 200)
    assert change(two, key, expires_at=None)[1]["expires_at"] is None
    assert chat(two, key) == 200


def test_who_changed_what_is_in_the_audit_log(two: ProxyProcess) -> None:
    key = issue(two, name="watched", models=["gpt-4o"])
    change(two, key, models=["gpt-4.1"], rpm=5)
    event = audited(two, key)
    assert event["document"]["fields"] == ["models", "rpm"]
    assert event["document"]["changed"] == {"models": [["gpt-4o"], ["gpt-4.1"]], "rpm": [None, 5]}
    assert event["document"]["actor"]
    assert key["key"] not in str(event)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"models": []}, "models"),
        ({"expires_at": "2020-01-01T00:00:00Z"}, "revoke"),
        ({"expires_at": "2030-01-01T00:00:00"}, "expires_at"),
        ({"tags": {"team": "x"}}, "tags"),
        ({"name": " "}, "name"),
        ({"name": None}, "name"),
        ({"role": "admin"}, "role"),
        ({"weight": None}, "weight"),
    ],
)
def test_what_makes_no_sense_is_told_and_changes_nothing(two: ProxyProcess, wrong: dict[str, Any], told: str) -> None:
    key = issue(two, models=["gpt-4o"])
    status, answer = change(two, key, **wrong)
    assert (status, told in answer["error"]["message"]) == (400, True), answer
    kept = two.get(f"{KEYS}/{key['id']}", AS_ADMIN)[1]
    assert {name: kept[name] for name in kept} == {name: key[name] for name in kept}


def test_a_revoked_key_stays_as_it_was(two: ProxyProcess) -> None:
    key = issue(two)
    two.ask("DELETE", f"{KEYS}/{key['id']}", headers=AS_ADMIN)
    status, answer = change(two, key, models=["gpt-4o"])
    assert (status, "revoked" in answer["error"]["message"]) == (400, True)
    assert two.get(f"{KEYS}/{key['id']}", AS_ADMIN)[1]["models"] is None
    assert change(two, {"id": "vk_nobody"}, rpm=1)[0] == 404


def test_the_command_line_changes_a_key(two: ProxyProcess, tmp_path: Path) -> None:
    key = issue(two, name="by hand", models=["gpt-4o"], team="old", tags={"env": "prod"})

    def cli(*arguments: str, status: int = 0) -> Any:
        env = {"APIKEYROUTER_ADMIN_KEY": ADMIN}
        return run_cli("virtual-keys", *arguments, "--url", two.origin, folder=tmp_path, env=env, status=status)

    cli("update", "by hand", "--model", "gpt-4.1*", "--model", "gpt-4o*", "--team", "new", "--days", "7", "--rpm", "30")
    told = two.get(f"{KEYS}/{key['id']}", AS_ADMIN)[1]
    assert (told["models"], told["team"], told["rpm"]) == (["gpt-4.1*", "gpt-4o*"], "new", 30)
    assert told["tags"] == {"env": "prod"}, "what was not named stays"
    ends = datetime.fromisoformat(told["expires_at"])
    assert timedelta(days=6.9) < ends - datetime.now(UTC) < timedelta(days=7.1)
    cli("update", key["id"], "--model", "any", "--team", "", "--tag", "", "--days", "0", "--rpm", "0", "--name", "new")
    told = two.get(f"{KEYS}/{key['id']}", AS_ADMIN)[1]
    assert [told[name] for name in ("models", "team", "tags", "expires_at", "rpm")] == [None, None, {}, None, None]
    assert told["name"] == "new"
    assert "--model" in cli("update", key["id"], status=2).err
