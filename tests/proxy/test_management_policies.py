"""Policies and deployments over real HTTP and by command: set, checked, in force, listed as models, removed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.command import Ran, run_cli
from tests.support.server import Served, run_proxy
from tests.support.sim import Sim

CHAT = {"messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 5}
GROUP = {"targets": [{"provider": "openai", "model": "gpt-4o-mini", "weight": 2}, "openai/gpt-4o"]}


@pytest.fixture
def served(sim: Sim) -> Iterator[Served]:
    with run_proxy(sim.base_url, sim.keys) as (found, _):
        yield found


def chat(served: Served, model: str, **headers: str) -> Any:
    return served.ask("POST", "/v1/chat/completions", {"model": model, **CHAT}, headers)


def test_a_deployment_is_set_serves_is_listed_as_a_model_and_removed(served: Served, sim: Sim) -> None:
    made = served.ask("PUT", "/api/v1/deployments/fast-chat", GROUP)
    assert made.status == 200
    assert [(t["model"], t["weight"], t["priced"]) for t in made.json["targets"]] == [
        ("gpt-4o-mini", 2.0, True),
        ("gpt-4o", 1.0, True),
    ]
    assert made.json["targets"][0]["keys"] == len(sim.keys)
    assert made.json["origin"] == "management API"
    reply = chat(served, "fast-chat")
    assert reply.status == 200
    assert sim.requests()[-1]["json"]["model"] in ("gpt-4o-mini", "gpt-4o")
    assert "fast-chat" in [model["id"] for model in served.get("/v1/models").json["data"]]
    assert served.get("/v1/models/fast-chat").json["owned_by"] == "apikeyrouter"
    assert served.ask("DELETE", "/api/v1/deployments/fast-chat").status == 204
    assert served.ask("DELETE", "/api/v1/deployments/fast-chat").code == "not_found"
    assert "fast-chat" not in [model["id"] for model in served.get("/v1/models").json["data"]]


def test_what_is_odd_is_told_and_what_is_wrong_is_refused(served: Served) -> None:
    odd = served.ask("PUT", "/api/v1/deployments/a/b", {"targets": ["nobody/m"], "fallbacks": ["gpt-4o"]})
    assert odd.json["notes"] == ["no provider is registered as nobody; those targets wait for it"]
    assert served.get("/api/v1/deployments/a/b").json["targets"][0]["keys"] is None
    wrong = served.ask("PUT", "/api/v1/deployments/x", {"targets": ["m"], "fallback": []})
    assert (wrong.status, wrong.code) == (400, "invalid_configuration")
    assert "targets[0]: 'm' names no provider" in wrong.json["error"]["message"]
    assert "did you mean 'fallbacks'?" in wrong.json["error"]["message"]
    shadow = served.post("/api/v1/deployments/check", {"name": "gpt-4o", "targets": ["openai/o3"]})
    assert "name of a real model" in shadow.json["error"]["message"]
    assert served.get("/api/v1/deployments").json["total"] == 1


def test_a_policy_blocks_says_why_and_is_gone_when_it_is_deleted(served: Served, sim: Sim) -> None:
    made = served.ask("PUT", "/api/v1/policies/no-openai", {"blocked_providers": ["openai"], "priority": 3})
    assert (made.status, made.json["scope"], made.json["origin"]) == (200, "global", "management API")
    refused = chat(served, "gpt-4o-mini")
    assert (refused.status, refused.code) == (403, "not_allowed")
    assert "policy no-openai: provider openai is blocked" in refused.json["error"]["message"]
    assert sim.seen() == 0
    decision = served.get(f"/api/v1/decisions/{refused.headers['x-akr-decision']}").json
    assert decision["policies"] == ["no-openai"]
    assert {one["code"] for one in decision["rejections"]} == {"policy"}
    assert served.ask("DELETE", "/api/v1/policies/no-openai").status == 204
    assert chat(served, "gpt-4o-mini").status == 200


def test_a_request_may_name_one_more_policy_which_only_narrows(served: Served, sim: Sim) -> None:
    served.ask("PUT", "/api/v1/policies/no-openai", {"blocked_providers": ["openai"], "scope": "team", "scope_id": "t"})
    served.ask("PUT", "/api/v1/policies/all", {"allowed_providers": ["*"], "scope": "team", "scope_id": "t"})
    assert chat(served, "gpt-4o-mini").status == 200
    for _ in range(2):
        refused = chat(served, "gpt-4o-mini", **{"x-akr-policy": "no-openai"})
        assert (refused.status, refused.code) == (403, "not_allowed")
    assert chat(served, "gpt-4o-mini", **{"x-akr-policy": "all"}).status == 200
    served.ask("PUT", "/api/v1/policies/nobody", {"blocked_providers": ["*"]})
    for name in ("all", "all"):  # what is known of a name follows what is set
        assert chat(served, "gpt-4o-mini", **{"x-akr-policy": name}).status == 403
    assert sim.seen() == 2


def test_a_policy_that_nobody_set_is_refused_with_the_names_of_those_that_exist(served: Served, sim: Sim) -> None:
    served.ask("PUT", "/api/v1/policies/cheap", {"max_cost": "0.01"})
    refused = chat(served, "gpt-4o-mini", **{"x-akr-policy": "chaep"})
    assert refused.status == 400
    assert refused.json["error"]["type"] == "invalid_request_error"
    assert "there is no policy 'chaep'; known are: cheap" in refused.json["error"]["message"]
    assert chat(served, "gpt-4o-mini", **{"x-akr-policy": " "}).status == 200
    assert sim.seen() == 1


def test_a_policy_of_a_virtual_key_is_set_by_its_name_and_holds_for_it_alone(served: Served) -> None:
    issued = {name: served.post("/api/v1/virtual-keys", {"name": name}).json for name in ("red", "blue")}
    made = served.ask(
        "PUT", "/api/v1/policies/cheap", {"scope": "virtual_key", "scope_id": "red", "blocked_models": ["gpt-4o"]}
    )
    assert made.json["scope_id"] == issued["red"]["id"]
    for name, status in (("red", 403), ("blue", 200)):
        assert chat(served, "gpt-4o", Authorization=f"Bearer {issued[name]['key']}").status == status
    mine = served.get("/api/v1/policies?model=gpt-4o&virtual_key=red").json
    assert [one["id"] for one in mine["data"]] == ["cheap"]
    assert served.get("/api/v1/policies?model=gpt-4o&virtual_key=blue").json["total"] == 0
    wrong = served.ask("PUT", "/api/v1/policies/x", {"scope": "virtual_key", "scope_id": "green", "max_cost": 1})
    assert wrong.code == "invalid_configuration"


def test_checking_changes_nothing(served: Served) -> None:
    fine = served.post("/api/v1/policies/check", {"id": "p", "scope": "provider", "scope_id": "nobody", "max_cost": 1})
    assert fine.json == {"id": "p", "notes": ["no provider is registered as nobody"]}
    assert served.post("/api/v1/policies/check", {"id": "p"}).code == "invalid_configuration"
    assert served.get("/api/v1/policies").json["total"] == 0
    assert served.get("/api/v1/policies/p").code == "not_found"


def test_who_set_what_is_in_the_event_log(served: Served) -> None:
    served.ask("PUT", "/api/v1/policies/p", {"max_cost": 1})
    served.ask("PUT", "/api/v1/deployments/d", GROUP)
    kinds = {event["kind"] for event in served.get("/api/v1/events").json["data"]}
    assert {"admin.policy.set", "policy.set", "admin.deployment.set", "deployment.set"} <= kinds


def test_commands_set_list_check_and_delete_on_a_store(tmp_path: Path) -> None:
    env = {"APIKEYROUTER_STORE": f"sqlite:///{tmp_path}/state.db"}

    def cli(*arguments: str, stdin: str | None = None, status: int = 0) -> Ran:
        return run_cli(*arguments, folder=tmp_path, env=env, stdin=stdin, status=status)

    policies = tmp_path / "policies.toml"
    policies.write_text(
        '[[policies]]\nid = "a"\nmax_cost = "0.5"\n[[policies]]\nid = "b"\nobjective = "cost"\npriority = 2\n'
    )
    assert "2 checked, nothing is wrong." in cli("policies", "check", str(policies)).out
    assert cli("policies", "set", str(policies)).out.splitlines() == ["Set policy a.", "Set policy b."]
    assert [row["id"] for row in cli("policies", "list", "--json").json] == ["b", "a"]
    assert "max_cost=0.5" in cli("policies", "list", "--model", "gpt-4o").out
    assert cli("policies", "show", "b").json == {"id": "b", "objective": "cost", "priority": 2}
    cli("policies", "delete", "a")
    wrong = cli("policies", "set", '[{"id": "c", "max_cost": -1}, {"id": "d", "max_cost": 1}]', status=1)
    assert "c: max_cost: expected US dollars" in wrong.err
    assert [row["id"] for row in cli("policies", "list", "--json").json] == ["b"]
    groups = json.dumps({"fast": ["openai/gpt-4o-mini", "openai/gpt-4o"], "gpt-4o": {"fallbacks": ["fast"]}})
    cli("deployments", "set", "-", stdin=groups)
    listed = cli("deployments", "list").out
    assert "openai/gpt-4o-mini, openai/gpt-4o" in listed
    assert "the model itself" in listed
    assert "128,000" in cli("deployments", "show", "fast").out
    cli("deployments", "delete", "fast")
    assert "no provider" in cli("deployments", "set", '{"name": "x", "targets": ["m"]}', status=1).err
    assert "has no 'name'" in cli("deployments", "set", '[{"targets": ["p/m"]}]', status=2).err


def test_what_the_configuration_says_is_told_and_cannot_be_changed(tmp_path: Path) -> None:
    env = {
        "APIKEYROUTER_STORE": f"sqlite:///{tmp_path}/state.db",
        "APIKEYROUTER_POLICIES": '[{"id": "a", "max_cost": "0.5"}]',
        "APIKEYROUTER_DEPLOYMENTS": '{"fast": ["openai/gpt-4o-mini"]}',
    }
    assert run_cli("policies", "list", "--json", folder=tmp_path, env=env).json[0]["origin"] == "configuration"
    listed = run_cli("deployments", "list", folder=tmp_path, env=env).out
    assert "APIKEYROUTER_DEPLOYMENTS" in listed
    for words in (("policies", "delete", "a"), ("deployments", "delete", "fast")):
        assert "comes from the configuration" in run_cli(*words, folder=tmp_path, env=env, status=1).err


def test_what_is_too_long_for_every_target_is_answered_as_openai_does(served: Served, sim: Sim) -> None:
    small = {"provider": "openai", "model": "gpt-4o-mini", "context_window": 3}
    served.ask("PUT", "/api/v1/deployments/tiny", {"targets": [small, {**small, "model": "gpt-4o"}]})
    refused = chat(served, "tiny")
    assert (refused.status, refused.code) == (400, "context_length_exceeded")
    error = refused.json["error"]
    assert error["type"] == "invalid_request_error"
    assert "maximum context length of what may serve the model 'tiny' is 3 tokens" in error["message"]
    assert "retry-after" not in refused.headers
    assert sim.seen() == 0
