"""The configuration file's text over the API: what is shown, and that no secret is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from apikeyrouter_proxy.config.file_text import UnshowableError, masked_text
from apikeyrouter_proxy.config.masking import MASK
from tests.support.config_files import ADMIN, Configured, configured
from tests.support.processes import proxy_process
from tests.support.server import run_proxy
from tests.support.sim import Sim

HIDDEN = "sk-" + "written-out-" + "0123456789"
OLD = "sk-" + "of-last-year-" + "0123456789"
TENANT = "tenant-" + "0123456789"
TEXT = f"""
# before: {OLD}
server: {{admin_key: "${{ADMIN_KEY}}", log_level: INFO}}
providers:
  openai: {{base_url: "${{SIM_URL}}"}}
  own:
    adapter: apikeyrouter.infrastructure.adapters.openai_adapter:OpenAIAdapter
    options: {{base_url: "${{SIM_URL}}", claims_all: false, headers: {{X-Tenant_Key: {TENANT}}}}}
keys:
  first: {{provider: openai, secret: "${{SIM_KEY_1}}"}}   # {HIDDEN} is the other one
  second:
    provider: openai
    secret: {HIDDEN}
"""


@pytest.fixture(scope="module")
def running(sim_server: Sim, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Configured]:
    with configured(sim_server, tmp_path_factory.mktemp("shown"), TEXT) as proxy:
        yield proxy


def test_the_text_is_shown_with_references_and_without_secrets(running: Configured) -> None:
    status, told = running.ask("GET", "/api/v1/config/file")
    assert status == 200
    assert told["path"].endswith(running.file.name)
    assert f'secret: "{MASK}"' in told["text"]
    assert '"${SIM_KEY_1}"' in told["text"]
    assert HIDDEN not in told["text"]
    assert OLD not in told["text"]
    assert TENANT not in told["text"] + str(running.ask("GET", "/api/v1/config")[1])
    assert [line.partition("#")[0] for line in told["text"].splitlines() if "second" in line] == ["  second:"]


def test_what_is_shown_can_be_tried_and_secrets_count_as_those_that_run(running: Configured) -> None:
    _, told = running.ask("GET", "/api/v1/config/file")
    status, checked = running.ask("POST", "/api/v1/config/check", {"text": told["text"]})
    assert (status, checked["ok"], checked["changes"]) == (200, True, []), checked
    wider = told["text"].replace("log_level: INFO", "log_level: DEBUG")
    _, checked = running.ask("POST", "/api/v1/config/check", {"text": wider})
    assert [one["where"] for one in checked["changes"]] == ["server.log_level"]


def test_a_text_that_came_over_the_api_runs_no_class(running: Configured, tmp_path: Path) -> None:
    made = tmp_path / "made"
    text = f"providers:\n  new: {{adapter: 'os:makedirs', options: {{name: '{made}'}}}}\n"
    _, checked = running.ask("POST", "/api/v1/config/check", {"text": text})
    assert [one["where"] for one in checked["faults"]] == ["providers.new.adapter"]
    assert not made.exists()


@pytest.mark.parametrize("provider", ["{base_url: '{SIM_KEY_1}'}", "{base_url: 'ftp://{SIM_KEY_1}/v1'}"])
def test_no_fault_of_a_tried_text_tells_what_a_variable_holds(
    running: Configured, sim_server: Sim, provider: str
) -> None:
    _, checked = running.ask("POST", "/api/v1/config/check", {"text": f"providers:\n  new: {provider}\n"})
    assert sim_server.keys[0] not in str(checked)


def test_a_mask_that_stands_for_nothing_is_no_secret(running: Configured) -> None:
    text = f'keys:\n  third: {{provider: openai, secret: "{MASK}"}}\n'
    _, checked = running.ask("POST", "/api/v1/config/check", {"text": text})
    assert checked["ok"] is False
    assert checked["faults"][0]["where"] == "keys.third.secret"


def test_a_file_that_has_faults_by_now_is_not_shown_but_they_are(running: Configured) -> None:
    running.write(TEXT + f"\nmystery: {HIDDEN}\n")
    try:
        _, told = running.ask("GET", "/api/v1/config/file")
    finally:
        running.write(TEXT)
    assert told["text"] is None
    assert "mystery" in told["why_not"]
    assert HIDDEN not in told["why_not"]


def test_a_file_that_is_gone_is_said_to_be(running: Configured) -> None:
    running.file.unlink()
    try:
        _, told = running.ask("GET", "/api/v1/config/file")
    finally:
        running.write(TEXT)
    assert (told["text"], "cannot be read" in told["why_not"]) == (None, True)


def test_a_provider_of_the_file_can_be_looked_at_though_not_removed(running: Configured) -> None:
    assert running.ask("POST", "/api/v1/providers/openai/look", {})[0] == 200
    assert running.ask("DELETE", "/api/v1/providers/openai")[0] == 409


def test_without_a_file_there_is_no_text() -> None:
    with run_proxy() as (served, _):
        told = served.get("/api/v1/config/file").json
    assert (told["path"], told["text"]) == (None, None)
    assert "without" in told["why_not"]


@pytest.mark.parametrize(
    "secret",
    [
        HIDDEN,
        f"'{HIDDEN}'",
        f'"{HIDDEN}"',
        f"&one {HIDDEN}",
        f"|\n      {HIDDEN}",
        f'"{HIDDEN[:9]}\\\n    {HIDDEN[9:]}"',
    ],
)
def test_a_secret_is_masked_in_whatever_form_it_stands_or_nothing_is_shown(secret: str) -> None:
    text = f"keys:\n  a:\n    secret: {secret}\n    provider: openai\n"
    try:
        shown = masked_text(text, "x.yaml")
    except UnshowableError as fault:
        assert "line 3" in str(fault) or "line 4" in str(fault)
        return
    assert HIDDEN not in shown
    assert HIDDEN[9:] not in shown
    assert "provider: openai" in shown


def test_a_secret_that_anchors_repeat_is_masked_once_and_everywhere() -> None:
    text = f'keys:\n  a: {{secret: "{HIDDEN}"}}\n  b: &b {{secret: other-{HIDDEN}}}\n  c: *b\n# {HIDDEN}\n'
    shown = masked_text(text, "x.yaml")
    assert HIDDEN not in shown
    assert shown.count(MASK) >= 2
    assert "c: *b" in shown


def test_passwords_in_addresses_are_masked() -> None:
    word = "pass" + "word1"
    shown = masked_text(f"server:\n  store: postgres://me:{word}@db/akr\n", "x.yaml")
    assert word not in shown
    assert "postgres://me:" in shown


def test_a_file_of_litellms_is_not_shown_though_nothing_of_it_was_left_out() -> None:
    text = f"model_list:\n- model_name: a\n  litellm_params: {{model: openai/a, api_key: {HIDDEN}}}\n"
    with pytest.raises(UnshowableError, match="another product"):
        masked_text(text, "x.yaml")


def test_a_text_of_the_environment_is_shown_too_and_what_it_defines_is_changed_there(sim: Sim, tmp_path: Path) -> None:
    text = f"""server: {{admin_key: "{ADMIN}"}}
providers: {{openai: {{base_url: "{sim.base_url}"}}}}
keys: {{a: {{provider: openai, secret: {sim.keys[0]}}}}}
deployments: {{fast: {{targets: openai/gpt-4o}}}}
"""
    with proxy_process(None, tmp_path, env={"APIKEYROUTER_CONFIG_YAML": text}) as proxy:
        headers = {"Authorization": f"Bearer {ADMIN}"}
        told = proxy.get("/api/v1/config/file", headers)[1]
        assert (told["path"], told["why_not"]) == ("APIKEYROUTER_CONFIG_YAML", "")
        assert told["text"] == text.replace(f'"{ADMIN}"', f'"{MASK}"').replace(sim.keys[0], f'"{MASK}"')
        status, refused, _ = proxy.ask("PUT", "/api/v1/deployments/fast", {"targets": ["openai/o3"]}, headers)
        assert status == 409
        assert "at APIKEYROUTER_CONFIG_YAML:4:" in refused["error"]["message"]
        assert "start the proxy again" in refused["error"]["message"]
