"""`apikeyrouter budgets` and `spend`: the same verbs at a running proxy and on a store, and answers that help."""

from __future__ import annotations

import csv
import io
import json
from decimal import Decimal
from pathlib import Path

import pytest

from tests.support.command import Ran, run_cli
from tests.support.processes import ProxyProcess, free_port
from tests.support.sim import Sim

CHAT = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 5}


class Shell:
    """Runs the command line with a fixed environment."""

    def __init__(self, folder: Path, env: dict[str, str]) -> None:
        self.folder = folder
        self.env = env

    def __call__(self, *arguments: str, status: int | None = 0) -> Ran:
        return run_cli(*arguments, folder=self.folder, env=self.env, status=status)


@pytest.fixture
def remote(fresh: ProxyProcess, tmp_path: Path) -> Shell:
    """Beside a running proxy with three keys."""
    return Shell(tmp_path, {"PROXY_PORT": str(fresh.port)})


@pytest.fixture
def shared(proxy_server: ProxyProcess, tmp_path: Path) -> Shell:
    """Beside a proxy that other tests use too; change nothing."""
    return Shell(tmp_path, {"PROXY_PORT": str(proxy_server.port)})


@pytest.fixture
def alone(sim: Sim, tmp_path: Path) -> Shell:
    """Where no proxy runs."""
    return Shell(tmp_path, {"PROXY_PORT": str(free_port()), "OPENAI_BASE_URL": sim.base_url})


def life_of_a_budget(cli: Shell) -> None:
    """Create, list, show, edit, check, delete."""
    empty = cli("budgets", "list")
    assert "There is no budget" in empty.out
    made = cli("budgets", "create", "--limit", "$10", "--period", "day", "--name", "all", "--json").json
    assert (made["limit_amount"], made["period"], made["enforcement_mode"]) == ("10", "daily", "hard")
    said = cli("budgets", "create", "--limit", "0.000000001", "--on", "team=search", "--rolling", "--soft").out
    assert "$0.000000001 in any 24 hours for team search" in said
    listed = cli("budgets", "list").out
    for text in (made["id"], "all", "everything", "team search", "$10 a day", "$0.000000001 in any 24 hours", "0.0 %"):
        assert text in listed
    assert [one["name"] for one in cli("budgets", "list", "--json").json] == ["all", ""]

    shown = cli("budgets", "show", "all").out
    assert made["id"] in shown
    assert "$10 a day" in shown
    assert cli("budgets", "show", made["id"][:11], "--json").json["entries"] == []
    changed = cli("budgets", "edit", "all", "--limit", "20 USD", "--soft", "--name", "ours", "--json").json
    assert (changed["limit_amount"], changed["enforcement_mode"], changed["name"]) == ("20", "soft", "ours")
    assert "$21 a day, hard" in cli("budgets", "edit", "ours", "--limit", "21", "--hard").out
    assert "Deleted ours" in cli("budgets", "delete", "ours", "--yes").out
    assert len(cli("budgets", "list", "--json").json) == 1


def test_a_budget_lives_its_life_through_a_running_proxy(remote: Shell) -> None:
    life_of_a_budget(remote)


def test_a_budget_lives_its_life_on_the_store_when_no_proxy_runs(alone: Shell) -> None:
    life_of_a_budget(alone)


def test_spend_is_shown_as_a_table_csv_and_json_and_adds_up(remote: Shell, fresh: ProxyProcess, tmp_path: Path) -> None:
    assert "nothing" in remote("spend", "--since", "today").out
    costs = [Decimal(fresh.ask("POST", "/v1/chat/completions", CHAT)[2]["x-akr-cost"]) for _ in range(4)]
    report = remote("spend", "--by", "key", "--json").json
    assert Decimal(report["sum"]["cost"]) == sum(costs)
    table = remote("spend", "--by", "key", "--by", "model", "--since", "7d").out
    for text in ("openai-1", "openai-2", "openai-3", "gpt-4o-mini", f"${report['sum']['cost']}", "all", "%"):
        assert text in table
    for arguments in (["--output", "spend.csv"], ["--format", "csv", "--output", "other.txt"]):
        remote("spend", "--by", "day", *arguments)
        text = (tmp_path / arguments[-1]).read_text(encoding="utf-8")
        (row,) = csv.DictReader(io.StringIO(text))
        assert Decimal(row["cost_usd"]) == sum(costs)
    remote("spend", "--output", "spend.json")
    assert json.loads((tmp_path / "spend.json").read_text(encoding="utf-8"))["sum"] == report["sum"]
    on_screen = remote("spend", "--format", "csv").out
    assert on_screen.splitlines()[0].startswith("model,requests")
    only = remote("spend", "--by", "key", "--on", "key=openai-1", "--json").json
    assert [row["key_label"] for row in only["data"]] == ["openai-1"]


def test_a_check_says_what_would_happen_and_its_exit_status_too(remote: Shell) -> None:
    fits = remote("budgets", "check", "gpt-4o-mini", "--max-tokens", "5")
    assert "It fits" in fits.out
    assert "No budget covers it" in fits.err
    remote("budgets", "create", "--limit", "0.001", "--name", "small")
    refused = remote("budgets", "check", "gpt-4o-mini", "--prompt", "Hello!", "--max-tokens", "100000", status=1)
    assert "It would be refused" in refused.out
    assert "small" in refused.out
    most = remote("budgets", "check", "gpt-4o-mini", "--max-tokens", "100000", "--json", status=1).json[
        "max_output_tokens"
    ]
    assert f"With --max-tokens {most} it would fit" in refused.out
    remote("budgets", "check", "gpt-4o-mini", "--max-tokens", str(most))
    remote("budgets", "create", "--limit", "0.00000001", "--on", "tag=feature=chat")
    remote("budgets", "check", "gpt-4o-mini", "--max-tokens", "5", "--on", "tag=feature=chat", status=1)


@pytest.mark.parametrize(
    ("arguments", "status", "told"),
    [
        (["create", "--limit", "-5"], 1, "above zero"),
        (["create", "--limit", "10 EUR"], 1, "not in US dollars"),
        (["create", "--limit", "1", "--period", "m"], 1, "a month or a minute"),
        (["create", "--limit", "1", "--tz", "Berlin"], 1, "did you mean Europe/Berlin"),
        (["create", "--limit", "1", "--on", "key=nobody"], 1, "There are: openai-1"),
        (["create", "--limit", "1", "--on", "provider=opnai"], 1, "Did you mean openai?"),
        (["create", "--limit", "1", "--on", "virtual-key=nobody"], 1, "no virtual key at all"),
        (["create", "--limit", "1", "--on", "kye=x"], 2, "Did you mean key?"),
        (["create", "--limit", "1", "--on", "team"], 2, "KIND=NAME"),
        (["create", "--limit", "1", "--on", "tag=search"], 2, "tag=feature=search"),
        (["create"], 2, "--limit"),
        (["show", "nobody"], 1, "There is no budget at all"),
        (["edit", "nobody"], 2, "Say what to change"),
        (["delete", "nobody", "--yes"], 1, "No budget has the id or name"),
        (["check", "gpt-4o-mini", "--on", "key=a", "--on", "key=b"], 2, "twice"),
        (["check", "gpt-4o-mini", "--max-tokens", "0"], 2, "max-tokens"),
    ],
)
def test_what_people_get_wrong_gets_an_answer_that_helps(
    shared: Shell, arguments: list[str], status: int, told: str
) -> None:
    failed = shared("budgets", *arguments, status=status)
    assert told in " ".join(failed.err.split())
    assert failed.out == ""


@pytest.mark.parametrize(
    ("arguments", "status", "told"),
    [
        (["--by", "planet"], 1, "provider, key, model"),
        (["--since", "soon"], 1, "2026-11-01"),
        (["--format", "xml"], 2, "table"),
        (["--on", "key=nobody"], 1, "No key has this id or label"),
        (["--output", "no/such/folder/x.csv"], 1, "cannot be written"),
    ],
)
def test_senseless_reports_are_refused(shared: Shell, arguments: list[str], status: int, told: str) -> None:
    assert told in " ".join(shared("spend", *arguments, status=status).err.split())


def test_a_budget_of_two_names_must_be_named_by_its_id(remote: Shell) -> None:
    for _ in range(2):
        remote("budgets", "create", "--limit", "1", "--name", "twin")
    assert "Give the id of one" in remote("budgets", "show", "twin", status=2).err
