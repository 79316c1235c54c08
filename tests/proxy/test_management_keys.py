"""Management API over real HTTP: keys and providers, from registration to what a restart finds."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from apikeyrouter.domain.interfaces.state_store import StoreBatch
from apikeyrouter.domain.keys.secret import Secret
from apikeyrouter.infrastructure.state_store import open_store
from apikeyrouter.testing.store_rows import key_row
from tests.support.server import Served, run_proxy
from tests.support.sim import Sim

CHAT = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 5}


def material(name: str) -> str:
    return f"sk-{name}-" + "Z9" * 12


@pytest.fixture
def served(sim: Sim) -> Iterator[Served]:
    with run_proxy(sim.base_url, sim.keys[:1]) as (served, _):
        yield served


@pytest.fixture(scope="module")
def shared(sim_server: Sim) -> Iterator[Served]:
    """For requests that are refused and so change nothing."""
    with run_proxy(sim_server.base_url, sim_server.keys[:1]) as (served, _):
        yield served


def add(served: Served, name: str, **more: Any) -> dict[str, Any]:
    answer = served.post("/api/v1/keys", {"key_material": material(name), "label": name, **more})
    assert answer.status == 201, answer.body
    key: dict[str, Any] = answer.json
    return key


def kinds(served: Served, entity_id: str) -> list[str]:
    rows = served.get(f"/api/v1/events?entity_id={entity_id}").json["data"]
    return [row["kind"] for row in reversed(rows) if row["kind"].startswith("admin.")]


def test_a_key_is_registered_listed_and_shown_without_its_material(served: Served) -> None:
    answer = served.post(
        "/api/v1/keys",
        {"key_material": material("new"), "provider_id": "openai", "label": "team-a", "metadata": {"weight": 2}},
    )
    assert answer.status == 201
    key = answer.json
    assert (key["label"], key["state"], key["metadata"]) == ("team-a", "available", {"weight": 2})
    shown = served.get(f"/api/v1/keys/{key['id']}")
    listed = served.get("/api/v1/keys")
    assert key["id"] in [one["id"] for one in listed.json["data"]]
    assert listed.json["total"] == 2
    for reply in (answer, shown, listed):
        assert material("new") not in reply.body.decode()
        assert material("new")[-8:] not in reply.body.decode()


def test_lists_can_be_filtered_and_cut(served: Served) -> None:
    second = add(served, "second")
    served.post(f"/api/v1/keys/{second['id']}/disable")
    assert [k["id"] for k in served.get("/api/v1/keys?state=disabled").json["data"]] == [second["id"]]
    assert served.get("/api/v1/keys?provider_id=nobody").json["total"] == 0
    page = served.get("/api/v1/keys?limit=1&offset=1").json
    assert ([k["id"] for k in page["data"]], page["total"]) == ([second["id"]], 2)
    assert served.get("/api/v1/keys?state=sleepy").status == 400
    assert served.get("/api/v1/keys?limit=0").status == 400


def test_the_same_material_twice_is_a_conflict_that_names_the_key(served: Served) -> None:
    key = add(served, "twin")
    again = served.post("/api/v1/keys", {"key_material": material("twin")})
    assert (again.status, again.code) == (409, "conflict")
    assert key["id"] in again.json["error"]["message"]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [({"key_material": ""}, 400, "invalid_request"), ({"key_material": "a b"}, 400, "invalid_key"),
     ({"key_material": "sk-fine-12", "provider_id": "nobody"}, 404, "model_not_found"), ({}, 400, "invalid_request"),
     ({"key_material": "sk-fine-12", "metadata": {"weight": -1}}, 400, "invalid_key"),
     ({"key_material": "sk-fine-12", "metadata": {"base_url": "http://169.254.1.1/"}}, 400, "invalid_configuration"),
     ({"key_material": "sk-fine-12", "metadata": {"base_url": 7}}, 400, "invalid_key")],
)  # fmt: skip
def test_unusable_keys_are_refused(shared: Served, body: dict[str, Any], status: int, code: str) -> None:
    answer = shared.post("/api/v1/keys", body)
    assert (answer.status, answer.code) == (status, code)
    assert shared.get("/api/v1/keys").json["total"] == 1


def test_eight_characters_are_enough_for_a_key(served: Served) -> None:
    assert served.post("/api/v1/keys", {"key_material": "sk-key-1"}).status == 201


def test_patch_changes_label_metadata_and_state(served: Served) -> None:
    key = add(served, "patched", metadata={"weight": 2, "team": "a"})
    path = f"/api/v1/keys/{key['id']}"
    changed = served.ask("PATCH", path, {"label": "renamed", "metadata": {"team": None, "region": "eu"}}).json
    assert (changed["label"], changed["metadata"]) == ("renamed", {"weight": 2, "region": "eu"})
    assert served.ask("PATCH", path, {"state": "disabled"}).json["state"] == "disabled"
    assert served.ask("PATCH", path, {"state": "disabled"}).json["state"] == "disabled"
    assert served.ask("PATCH", path, {"state": "available"}).json["state"] == "available"
    assert served.ask("PATCH", path, {"state": "exhausted"}).status == 400
    assert kinds(served, key["id"]) == [
        "admin.key.added",
        "admin.key.changed",
        "admin.key.disabled",
        "admin.key.enabled",
    ]


def test_a_disabled_key_serves_nobody(served: Served, sim: Sim) -> None:
    only = served.get("/api/v1/keys").json["data"][0]
    assert served.post(f"/api/v1/keys/{only['id']}/disable", {"reason": "maintenance"}).json["state"] == "disabled"
    assert served.post("/v1/chat/completions", CHAT).status == 503
    assert served.get("/readyz").status == 503
    assert served.post(f"/api/v1/keys/{only['id']}/enable").json["state"] == "available"
    assert served.post("/v1/chat/completions", CHAT).status == 200
    history = served.get(f"/api/v1/keys/{only['id']}/history").json["data"]
    assert [(h["from_state"], h["to_state"], h["actor"]) for h in history] == [
        ("available", "disabled", "local"),
        ("disabled", "available", "local"),
    ]
    assert history[0]["cause"] == "maintenance"


def test_rotation_swaps_the_material_under_the_same_id(served: Served, sim: Sim) -> None:
    only = served.get("/api/v1/keys").json["data"][0]
    rotated = served.post(f"/api/v1/keys/{only['id']}/rotate", {"key_material": sim.keys[1], "overlap_s": 0})
    assert (rotated.status, rotated.json["id"], rotated.json["version"]) == (200, only["id"], 2)
    assert served.post("/v1/chat/completions", CHAT).status == 200
    assert {key: state["requests"] for key, state in sim.state()["keys"].items()} == {sim.keys[1]: 1}
    assert sim.keys[1] not in rotated.body.decode()


def test_a_check_asks_the_provider_and_moves_the_state(served: Served, sim: Sim) -> None:
    only = served.get("/api/v1/keys").json["data"][0]
    fine = served.post(f"/api/v1/keys/{only['id']}/check").json
    assert (fine["ok"], fine["status"]) == (True, 200)
    bad = add(served, "bad")
    sim.fault(material("bad"), "revoked")
    refused = served.post(f"/api/v1/keys/{bad['id']}/check").json
    assert (refused["ok"], refused["status"]) == (False, 401)
    assert served.get(f"/api/v1/keys/{bad['id']}").json["state"] != "available"


@pytest.mark.parametrize(
    ("fault", "after"), [({"retry_after_s": 1}, "available"), ({"retry_after_form": "none"}, "recovering")], ids=str
)
def test_a_key_whose_rest_is_over_says_so_before_anybody_asks_for_it(
    sim: Sim, fault: dict[str, Any], after: str
) -> None:
    sim.fault(sim.keys[0], "rate_limited", **fault)
    with run_proxy(sim.base_url, sim.keys[:1], router_config={"quota_wait_s": "0"}) as (served, _):
        assert served.post("/v1/chat/completions", CHAT).status == 429
        asked = sim.seen(sim.keys[0])
        rests = served.get("/api/v1/keys").json["data"][0]
        assert served.get(f"/api/v1/keys/{rests['id']}/history").json["data"][-1]["to_state"] == "throttled"
        until_s, pause = time.monotonic() + 15.0, threading.Event()
        while served.get("/api/v1/keys?state=throttled").json["data"]:
            assert time.monotonic() < until_s, served.get("/api/v1/keys").json["data"]
            pause.wait(0.05)
        rested = served.get(f"/api/v1/keys/{rests['id']}").json
        assert (rested["state"], rested["cooldown_until"]) == (after, None)
        assert f'state="{after}"' in served.get("/metrics").body.decode()
        assert sim.seen(sim.keys[0]) == asked


def test_a_revoked_key_is_gone_from_lists_and_cannot_return(served: Served) -> None:
    key = add(served, "doomed")
    assert served.ask("DELETE", f"/api/v1/keys/{key['id']}?reason=leaked").json["state"] == "retired"
    assert key["id"] not in [k["id"] for k in served.get("/api/v1/keys").json["data"]]
    assert served.get(f"/api/v1/keys/{key['id']}").json["state"] == "retired"
    for verb in ("enable", "disable"):
        answer = served.post(f"/api/v1/keys/{key['id']}/{verb}")
        assert (answer.status, answer.code) == (409, "invalid_state")
    assert served.post(f"/api/v1/keys/{key['id']}/rotate", {"key_material": material("x")}).status == 409


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", ""), ("DELETE", ""), ("PATCH", ""), ("POST", "/disable"), ("POST", "/enable"), ("POST", "/check"),
     ("GET", "/history"), ("POST", "/rotate")],
)  # fmt: skip
def test_unknown_keys_are_404(shared: Served, method: str, path: str) -> None:
    body = {"key_material": material("y")} if path == "/rotate" else {} if method in ("PATCH", "POST") else None
    answer = shared.ask(method, f"/api/v1/keys/key_nope{path}", body)
    assert (answer.status, answer.code) == (404, "key_not_found")


def test_what_was_revoked_or_replaced_does_not_come_back_from_the_environment(sim: Sim, tmp_path: Path) -> None:
    store = {"store_url": f"sqlite:///{tmp_path}/x.db", "encryption_key": Secret("passphrase of the test")}
    first, second, third = sim.keys
    with run_proxy(sim.base_url, [first, second], **store) as (served, _):
        one, two = (key["id"] for key in served.get("/api/v1/keys").json["data"])
        served.ask("DELETE", f"/api/v1/keys/{one}")
        served.post(f"/api/v1/keys/{two}/rotate", {"key_material": third})
    with run_proxy(sim.base_url, [first, second], **store) as (served, proxy):
        assert [key["id"] for key in served.get("/api/v1/keys").json["data"]] == [two]
        told = " ".join(proxy.notes)
        assert "OPENAI_API_KEY_1 was revoked or replaced" in told
        assert "OPENAI_API_KEY_2 was revoked or replaced" in told
        assert served.post("/api/v1/keys", {"key_material": first}).status == 201
    with run_proxy(sim.base_url, [first], **store) as (served, proxy):
        assert len(served.get("/api/v1/keys").json["data"]) == 2
        assert not any("was revoked or replaced" in note for note in proxy.notes)
    for file in [path for path in tmp_path.rglob("*") if path.is_file()]:
        assert not any(key.encode() in file.read_bytes() for key in sim.keys)


def test_keys_of_the_environment_are_taken_once(sim: Sim, tmp_path: Path) -> None:
    store = {"store_url": f"sqlite:///{tmp_path}/x.db", "encryption_key": Secret("passphrase of the test")}
    ids = []
    for _ in range(2):
        with run_proxy(sim.base_url, sim.keys, **store) as (served, _):
            ids.append([key["id"] for key in served.get("/api/v1/keys").json["data"]])
    assert ids[0] == ids[1]
    assert len(ids[0]) == 3


def test_without_any_key_a_simulated_provider_answers_until_a_real_key_comes(sim: Sim, tmp_path: Path) -> None:
    store = {"store_url": f"sqlite:///{tmp_path}/x.db", "encryption_key": Secret("passphrase of the test")}
    with run_proxy(sim.base_url, **store) as (served, proxy):
        assert served.get("/readyz").status == 200
        assert served.get("/api/v1/state").json["simulated"] is True
        assert served.post("/v1/chat/completions", CHAT).headers["x-akr-provider"] == "simulated"
        assert "simulated provider" in proxy.notes[0]
        assert served.post("/api/v1/keys", {"key_material": sim.keys[0]}).status == 201
        assert served.get("/api/v1/state").json["simulated"] is False
        assert served.post("/v1/chat/completions", CHAT).headers["x-akr-provider"] == "openai"
        assert {k["provider_id"] for k in served.get("/api/v1/keys").json["data"]} == {"openai"}
        assert [p["id"] for p in served.get("/api/v1/providers").json["data"]] == ["openai"]
    with closing(sqlite3.connect(tmp_path / "x.db")) as database:
        tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE name LIKE '%key%'")]
        assert any(name == "keys" for name in tables)
        assert [row for row in database.execute("SELECT * FROM keys") if "simulated" in row] == []


def test_simulated_keys_that_a_crash_left_behind_are_deleted(sim: Sim, tmp_path: Path) -> None:
    async def crash() -> None:
        store = open_store(f"sqlite:///{tmp_path}/x.db")
        await store.apply(StoreBatch(keys=[key_row("key_old", provider_id="simulated")]))
        await store.close()

    asyncio.run(crash())
    with run_proxy(sim.base_url, store_url=f"sqlite:///{tmp_path}/x.db", encryption_key=Secret("of the test")) as (
        served,
        _,
    ):
        ids = [key["id"] for key in served.get("/api/v1/keys").json["data"]]
        assert len(ids) == 3
        assert "key_old" not in ids


def test_a_provider_is_added_used_and_removed(served: Served, sim: Sim) -> None:
    made = served.post("/api/v1/providers", {"id": "local", "base_url": sim.base_url + "/", "headers": {"X-Team": "a"}})
    assert made.status == 201
    assert made.json == {
        "id": "local", "base_url": sim.base_url, "dialect": "openai", "source": "added", "keys": 0, "keys_usable": 0,
        "recent": None, "defined": {"source": "api", "at": ""},
    }  # fmt: skip
    assert served.post("/api/v1/providers", {"id": "local", "base_url": sim.base_url}).status == 409
    key = served.post("/api/v1/keys", {"key_material": sim.keys[2], "provider_id": "local"}).json
    reply = served.post("/v1/chat/completions", {**CHAT, "model": "local/gpt-4o-mini"})
    assert (reply.status, reply.headers["x-akr-provider"]) == (200, "local")
    assert served.ask("DELETE", "/api/v1/providers/local").status == 409
    served.ask("DELETE", f"/api/v1/keys/{key['id']}")
    assert served.ask("DELETE", "/api/v1/providers/local").status == 204
    assert served.get("/api/v1/providers/local").status == 404
    assert served.ask("DELETE", "/api/v1/providers/openai").status == 409


def test_added_providers_survive_a_restart(sim: Sim, tmp_path: Path) -> None:
    store = {"store_url": f"sqlite:///{tmp_path}/x.db", "encryption_key": Secret("passphrase of the test")}
    with run_proxy(sim.base_url, sim.keys, **store) as (served, _):
        assert served.post("/api/v1/providers", {"id": "local", "base_url": sim.base_url}).status == 201
    with run_proxy(sim.base_url, sim.keys, **store) as (served, _):
        assert served.get("/api/v1/providers/local").json["base_url"] == sim.base_url


@pytest.mark.parametrize(
    "base_url",
    ["ftp://example.com/v1", "example.com/v1", "http://user:pw@127.0.0.1/v1", "http://10.1.2.3/v1", "http://192.168.0.9",
     "http://169.254.169.254/latest", "http://[fd00::1]/v1", "http://[::ffff:10.0.0.1]/v1", "http://100.64.0.1/v1",
     "http://0x0a010203/v1", "http://167838211/v1", "http://012.1.2.3/v1", "http://0.0.0.0/v1", "http://224.0.0.1/v1",
     "http://127.0.0.1/v1?x=1"],
)  # fmt: skip
def test_base_urls_into_private_networks_and_malformed_ones_are_refused(shared: Served, base_url: str) -> None:
    answer = shared.post("/api/v1/providers", {"id": "bad", "base_url": base_url})
    assert (answer.status, answer.code) == (400, "invalid_configuration"), answer.body
    assert shared.get("/api/v1/providers/bad").status == 404


def test_a_private_address_needs_an_explicit_word(served: Served) -> None:
    for word in ("yes", 1, "true"):
        vague = {"id": "inside", "base_url": "http://10.1.2.3/v1", "allow_private": word}
        assert served.post("/api/v1/providers", vague).status == 400
    body = {"id": "inside", "base_url": "http://10.1.2.3/v1", "allow_private": True}
    assert served.post("/api/v1/providers", body).status == 201


@pytest.mark.parametrize(
    "more",
    [{"headers": {"Authorization": "Bearer x"}}, {"headers": {"X-Api-Key": "x"}}, {"headers": {"x y": "z"}},
     {"headers": {"x": "a\r\nb: c"}}, {"id": "a/b"}, {"id": ""}, {"dialect": "Rot 13"}, {"verify_tls": False}],
)  # fmt: skip
def test_unusable_providers_are_refused(shared: Served, sim_server: Sim, more: dict[str, Any]) -> None:
    assert shared.post("/api/v1/providers", {"id": "local", "base_url": sim_server.base_url, **more}).status == 400
