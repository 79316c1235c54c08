"""`chat`, `route` and `decisions`: one request, why it went where it went, and why it would."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from apikeyrouter_proxy.cli.chat import StreamedText
from apikeyrouter_proxy.cli.console import plain
from apikeyrouter_proxy.cli.failures import CliError
from tests.support.command import Ran, run_cli
from tests.support.processes import ProxyProcess, free_port
from tests.support.sim import Sim


@pytest.fixture
def shared(proxy_server: ProxyProcess, sim: Sim) -> dict[str, str]:
    """Beside a proxy that other tests use too."""
    return {"PROXY_PORT": str(proxy_server.port)}


@pytest.fixture
def beside(fresh: ProxyProcess) -> dict[str, str]:
    return {"PROXY_PORT": str(fresh.port)}


def test_chat_streams_the_reply_and_tells_about_it_on_standard_error(beside: dict[str, str], tmp_path: Path) -> None:
    ran = run_cli("chat", "Say something", "--model", "gpt-4o-mini", folder=tmp_path, env=beside)
    assert ran.out.startswith('Simulated answer to "Say something"')
    *_, about = ran.err.strip().splitlines()
    assert about.startswith("openai-1 of openai · 1 attempt · ")
    assert "tokens · $0.0000" in about
    assert "first token after" in about
    decision_id = about.rpartition(" ")[2]

    explained = run_cli("decisions", "show", decision_id, folder=tmp_path, env=beside)
    assert explained.out.startswith("Selected openai-1 because")
    assert "openai-2" in explained.out
    listed = run_cli("decisions", "list", "--json", folder=tmp_path, env=beside).json
    assert [one["id"] for one in listed] == [decision_id]
    assert decision_id in run_cli("decisions", "list", folder=tmp_path, env=beside).out


def test_chat_reads_its_message_from_standard_input_and_prints_json(shared: dict[str, str], tmp_path: Path) -> None:
    told = run_cli("chat", "--json", "-o", "cost", folder=tmp_path, env=shared, stdin="From a pipe\n").json
    assert "From a pipe" in told["content"]
    assert told["attempts"] == 1
    assert float(told["cost_usd"]) > 0
    assert told["reply"]["usage"] == told["usage"]
    decision = run_cli("decisions", "show", told["decision"], "--json", folder=tmp_path, env=shared).json
    assert decision["objective"] == "cost"


def test_chat_without_a_stream_prints_the_same_reply(shared: dict[str, str], tmp_path: Path) -> None:
    ran = run_cli("chat", "Hello!", "--no-stream", folder=tmp_path, env=shared)
    assert ran.out.startswith('Simulated answer to "Hello!"')


def test_chat_says_what_failed_and_why(beside: dict[str, str], sim: Sim, tmp_path: Path) -> None:
    sim.fault(None, "rate_limited", retry_after_s=30)
    ran = run_cli("chat", "Hello!", folder=tmp_path, env=beside, status=1)
    assert ran.out == ""
    assert "Error: " in ran.err
    assert "apikeyrouter decisions show dec_" in ran.err


def test_chat_reports_a_stream_that_breaks_off(beside: dict[str, str], sim: Sim, tmp_path: Path) -> None:
    sim.fault(None, "cut_stream", after_chunks=3)
    ran = run_cli("chat", "Hello!", folder=tmp_path, env=beside, status=1)
    assert "The reply broke off" in ran.err


def test_a_stream_without_its_end_is_no_reply() -> None:
    shown = StreamedText()
    event = b'data: {"choices": [{"delta": {"content": "Hel"}}]}\n\n'
    with pytest.raises(CliError, match="broke off"):
        assert list(shown.texts(iter([event[:20], event[20:]]))) == ["Hel"]
    assert list(shown.texts(iter([event, b"data: [DONE]\n"]))) == ["Hel"]


def test_text_from_outside_cannot_command_the_terminal() -> None:
    assert plain("a\x1b[2Jb\x9bc\u202ed\r\te\n") == "a\\x1b[2Jb\\x9bc\\x202ed\\x0d\te\n"


def test_chat_without_any_key_is_answered_by_the_simulated_provider_and_says_so(tmp_path: Path) -> None:
    env = {"PROXY_PORT": str(free_port()), "APIKEYROUTER_STORE": "memory:"}
    ran = run_cli("chat", "Hello!", folder=tmp_path, env=env)
    assert ran.out.startswith('Simulated answer to "Hello!"')
    assert "the simulated provider answers" in ran.err


def test_chat_works_without_a_proxy_with_the_keys_of_the_environment(sim: Sim, tmp_path: Path) -> None:
    env = {
        "PROXY_PORT": str(free_port()),
        "APIKEYROUTER_STORE": "memory:",
        "OPENAI_BASE_URL": sim.base_url,
        "OPENAI_API_KEY": sim.keys[0],
    }
    ran = run_cli("chat", "Hello!", folder=tmp_path, env=env)
    assert "openai-1 of openai" in ran.err
    assert sim.seen(sim.keys[0]) == 1


def test_an_empty_message_is_refused(tmp_path: Path) -> None:
    assert "The message is empty" in run_cli("chat", folder=tmp_path, status=2).err


def explain(env: dict[str, str], folder: Path, *arguments: str, status: int = 0) -> Ran:
    return run_cli("route", "--explain", *arguments, folder=folder, env=env, status=status)


def test_route_explains_and_sends_nothing(shared: dict[str, str], sim: Sim, tmp_path: Path) -> None:
    ran = explain(shared, tmp_path, "gpt-4o-mini", "--objective", "cost", "--message", "How are you?")
    assert re.match(r"Selected openai-\d because lowest cost \(\$", ran.out)
    assert "score (lower is better)" in ran.out
    assert "What would change it: " in ran.out
    decision = explain(shared, tmp_path, "gpt-4o-mini", "--json").json
    assert decision["outcome"] == "dry_run"
    assert sim.seen() == 0


def test_route_shows_refusals_with_their_codes_and_fails_when_nobody_could_serve(
    beside: dict[str, str], tmp_path: Path
) -> None:
    run_cli("keys", "disable", "openai-1", folder=tmp_path, env=beside)
    ran = explain(beside, tmp_path, "gpt-4o-mini")
    assert "openai-1   openai     disabled" in ran.out
    for label in ("openai-2", "openai-3"):
        run_cli("keys", "disable", label, folder=tmp_path, env=beside)
    refused = explain(beside, tmp_path, "gpt-4o-mini", status=1)
    assert refused.out.startswith("No key could serve gpt-4o-mini")
    assert explain(beside, tmp_path, "gpt-4o-mini", "--json", status=1).json["selected_key_id"] is None


def test_route_says_what_would_change_without_a_key_or_with_another_objective(
    shared: dict[str, str], tmp_path: Path
) -> None:
    real = explain(shared, tmp_path, "gpt-4o-mini", "--json").json["selected_key_id"]
    labels = {one["id"]: one["label"] for one in run_cli("keys", "list", "--json", folder=tmp_path, env=shared).json}
    without = explain(shared, tmp_path, "gpt-4o-mini", "--without", labels[real])
    assert "Against the real decision: A request without these wishes" in without.out
    assert f"Without these wishes {labels[real]} would serve" in without.out
    assert "key is blocked" in without.out
    other = next(key_id for key_id in labels if key_id != real)
    only = explain(shared, tmp_path, "gpt-4o-mini", "--key", labels[other], "-o", "cost", "--json").json
    assert only["selected_key_id"] == other
    assert only["compared"]["selected_key_id"] == real
    assert only["compared"]["same"] is False
    assert "There is no key 'nobody'" in explain(shared, tmp_path, "gpt-4o-mini", "--without", "nobody", status=2).err


def test_route_refuses_an_unknown_objective_by_naming_the_known_ones(shared: dict[str, str], tmp_path: Path) -> None:
    ran = explain(shared, tmp_path, "gpt-4o-mini", "--objective", "speed", status=1)
    assert "known are: cost, reliability, fairness" in ran.err
