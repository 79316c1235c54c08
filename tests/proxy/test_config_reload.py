"""A changed configuration file, applied to a running proxy: whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.config_files import Configured, configured, until
from tests.support.sim import Sim

BASE = """
server: {admin_key: "${ADMIN_KEY}", log_level: INFO}
providers:
  openai: {base_url: "${SIM_URL}"}
keys:
  first: {provider: openai, secret: "${SIM_KEY_1}"}
"""
WIDER = """
server: {admin_key: "${ADMIN_KEY}", log_level: INFO}
objective: cost
providers:
  openai: {base_url: "${SIM_URL}"}
keys:
  first: {provider: openai, secret: "${SIM_KEY_1}", rpm: 500}
  second: {provider: openai, secret: "${SIM_KEY_2}"}
budgets:
  daily: {limit: 5}
deployments:
  fast: {targets: [openai/gpt-4o-mini]}
policies:
  no-four: {blocked_models: [gpt-4]}
prices:
  openai/gpt-4o-mini: {unit: per_1m, input: 1, output: 2}
virtual_keys:
  client: {secret: sk-client-of-the-tests-01, models: gpt-4o*}
"""


@pytest.fixture
def running(sim: Sim, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Configured]:
    with configured(sim, tmp_path_factory.mktemp("configured"), BASE) as proxy:
        yield proxy


def test_everything_that_a_file_adds_counts_after_a_reload_and_goes_when_it_goes(running: Configured) -> None:
    assert set(running.rows("keys")) == {"first"}
    running.write(WIDER)
    status, told = running.reload()
    assert status == 200, told
    assert {one["where"] for one in told["changes"]} >= {"keys.second", "budgets.daily", "objective", "keys.first.rpm"}
    assert set(running.rows("keys")) == {"first", "second"}
    assert running.rows("keys")["first"]["metadata"]["rpm"] == 500
    assert running.rows("budgets")["daily"]["limit_amount"] == "5"
    assert running.chat("fast")[0] == 200
    assert running.chat("gpt-4")[0] == 403
    assert running.chat("gpt-4o-mini", "sk-client-of-the-tests-01")[0] == 200
    assert running.chat("gpt-4", "sk-client-of-the-tests-01")[0] == 403
    price = running.ask("GET", "/api/v1/prices/openai/gpt-4o-mini")[1]
    assert price["prices"] == {"input": "1", "output": "2"}

    running.write(BASE)
    status, told = running.reload()
    assert status == 200, told
    assert set(running.rows("keys")) == {"first"}
    assert running.rows("budgets") == {}
    assert "fast" not in running.rows("deployments")
    assert running.chat("gpt-4")[0] == 200
    assert running.chat("gpt-4o-mini", "sk-client-of-the-tests-01")[0] == 401


def test_a_file_with_faults_changes_nothing_and_every_fault_has_its_line(running: Configured) -> None:
    running.write(WIDER.replace("limit: 5", "limit: much").replace("cost", "cheapness"))
    status, told = running.reload()
    assert status == 400
    assert "apikeyrouter.yaml:3:12: objective" in told["error"]["message"]
    assert "apikeyrouter.yaml:10:18: budgets.daily.limit" in told["error"]["message"]
    assert set(running.rows("keys")) == {"first"}
    assert running.rows("budgets") == {}
    assert running.chat()[0] == 200


def test_an_added_secret_that_is_not_there_changes_nothing(running: Configured) -> None:
    running.write(WIDER.replace("SIM_KEY_2", "NOBODY_SET_THIS"))
    status, told = running.reload()
    assert status == 400
    assert "the environment has no NOBODY_SET_THIS" in told["error"]["message"]
    assert set(running.rows("keys")) == {"first"}


def test_what_fails_while_it_is_applied_is_undone(running: Configured) -> None:
    """That nobody has this virtual key is seen when the other objects are in the store already."""
    running.write(WIDER.replace("limit: 5", "limit: 5, scope: virtual_key, scope_id: nobody"))
    status, told = running.reload()
    assert (status, told["error"]["code"]) == (400, "invalid_budget")
    assert set(running.rows("keys")) == {"first"}
    assert "rpm" not in running.rows("keys")["first"]["metadata"]
    assert running.rows("budgets") == {}
    assert running.rows("virtual-keys") == {}
    assert "fast" not in running.rows("deployments")
    running.write(WIDER)
    assert running.reload()[0] == 200


def test_a_new_secret_of_a_key_is_a_rotation(running: Configured) -> None:
    before = running.rows("keys")["first"]
    running.write(BASE.replace("SIM_KEY_1", "SIM_KEY_3"))
    status, told = running.reload()
    assert (status, told["done"]) == (200, ["key first rotated"])
    after = running.rows("keys")["first"]
    assert (after["id"], after["version"]) == (before["id"], before["version"] + 1)
    assert running.chat()[0] == 200


def test_keys_that_exchange_their_secrets_both_go_on(running: Configured) -> None:
    running.write(WIDER)
    assert running.reload()[0] == 200
    exchanged = (
        WIDER.replace("SIM_KEY_1", "SIM_KEY_X").replace("SIM_KEY_2", "SIM_KEY_1").replace("SIM_KEY_X", "SIM_KEY_2")
    )
    running.write(exchanged)
    status, told = running.reload()
    assert status == 200, told
    assert set(running.rows("keys")) == {"first", "second"}
    assert running.reload()[1]["changes"] == []


def test_sighup_reads_the_file_again_and_logs_what_is_wrong(running: Configured) -> None:
    running.write(WIDER)
    running.hang_up()
    until(lambda: set(running.rows("keys")) == {"first", "second"}, "the second key came")
    running.write("keys: [")
    running.hang_up()
    until(lambda: "nothing was changed" in running.proxy.log, "the fault was logged")
    assert "apikeyrouter.yaml:" in running.proxy.log
    assert running.chat()[0] == 200


def test_objects_of_the_file_are_changed_in_the_file(running: Configured) -> None:
    running.write(WIDER)
    assert running.reload()[0] == 200
    key, budget = running.rows("keys")["first"]["id"], running.rows("budgets")["daily"]["id"]
    refused = [
        ("PATCH", f"/api/v1/keys/{key}", {"label": "other"}, 7),
        ("DELETE", f"/api/v1/keys/{key}", None, 7),
        ("POST", f"/api/v1/keys/{key}/rotate", {"key_material": "sim-other-key-0001"}, 7),
        ("PATCH", f"/api/v1/budgets/{budget}", {"limit": "7"}, 10),
        ("DELETE", f"/api/v1/budgets/{budget}", None, 10),
        ("PUT", "/api/v1/deployments/fast", {"targets": ["openai/gpt-4o"]}, 12),
        ("DELETE", "/api/v1/policies/no-four", None, 14),
        ("PUT", "/api/v1/prices/openai/gpt-4o-mini", {"unit": "per_1m", "input": 3, "output": 4}, 16),
        ("DELETE", "/api/v1/virtual-keys/vkf_client", None, 18),
        ("DELETE", "/api/v1/providers/openai", None, 5),
    ]
    for method, path, body, line in refused:
        status, answer = running.ask(method, path, body)
        assert status == 409, (path, answer)
        assert answer["error"]["code"] == "defined_in_file", answer
        assert f"apikeyrouter.yaml:{line}:" in answer["error"]["message"].replace(
            str(running.file), "apikeyrouter.yaml"
        )
    assert running.ask("POST", f"/api/v1/keys/{key}/disable", {})[1]["state"] == "disabled"
    assert running.ask("PATCH", f"/api/v1/keys/{key}", {"state": "available"})[1]["state"] == "available"


def test_objects_of_the_api_survive_a_reload(running: Configured) -> None:
    assert running.ask("POST", "/api/v1/budgets", {"limit": "9", "name": "by-hand"})[0] == 201
    assert running.ask("PUT", "/api/v1/deployments/mine", {"targets": ["openai/gpt-4o"]})[0] == 200
    running.write(WIDER)
    assert running.reload()[0] == 200
    running.write(BASE)
    assert running.reload()[0] == 200
    assert set(running.rows("budgets")) == {"by-hand"}
    assert "mine" in running.rows("deployments")


def test_what_needs_a_restart_is_told_and_not_taken_over(running: Configured) -> None:
    running.write(BASE.replace("log_level: INFO", "log_level: DEBUG") + "router: {waiting_max: 5, attempts_max: 2}\n")
    status, told = running.reload()
    assert status == 200
    assert told["restart"] == ["router.waiting_max"]
    shown = running.ask("GET", "/api/v1/config")[1]
    assert shown["restart"] == told["restart"]
    values = {one["where"]: one for one in shown["settings"]}
    assert (values["router.attempts_max"]["value"], values["router.attempts_max"]["source"]) == ("2", "file")


def test_another_log_level_counts_from_the_reload_on(running: Configured) -> None:
    def lines() -> int:
        return running.proxy.log.count('"event":"request"')

    assert running.chat()[0] == 200
    until(lambda: lines() == 1, "a line for the request")
    running.write(BASE.replace("log_level: INFO", "log_level: WARNING"))
    assert running.reload()[1]["restart"] == []
    assert running.chat()[0] == 200
    running.write(BASE)
    assert running.reload()[0] == 200
    assert running.chat()[0] == 200
    until(lambda: lines() >= 2, "a line for the third request")
    assert lines() == 2, "none for the second"


def test_a_text_is_tried_without_following_its_references(running: Configured) -> None:
    tried = BASE.replace("SIM_KEY_1}", "SIM_KEY_1}").replace("first", "renamed")
    status, told = running.ask("POST", "/api/v1/config/check", {"text": tried})
    assert (status, told["ok"]) == (200, True)
    assert {(one["where"], one["what"]) for one in told["changes"]} == {
        ("keys.first", "removed"),
        ("keys.renamed", "added"),
    }
    assert running.ask("POST", "/api/v1/config/check", {"text": BASE})[1]["changes"] == []
    told = running.ask(
        "POST", "/api/v1/config/check", {"text": "keys: {a: {provider: openai, secret: '${file:/etc/x}'}}"}
    )[1]
    assert told["ok"]
    told = running.ask("POST", "/api/v1/config/check", {"text": "keyz: {}"})[1]
    assert not told["ok"]
    assert (told["faults"][0]["line"], told["faults"][0]["hint"]) == (1, "did you mean 'keys'?")


def test_no_answer_holds_a_secret(running: Configured, sim: Sim) -> None:
    running.write(WIDER)
    text = str([running.reload(), running.ask("GET", "/api/v1/config"), running.rows("virtual-keys")])
    for secret in (*sim.keys, "sk-client-of-the-tests-01", "admin-of-the-tests-0001"):
        assert secret not in text
