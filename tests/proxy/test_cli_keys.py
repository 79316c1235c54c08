"""`apikeyrouter keys` and `virtual-keys`: the same verbs at a running proxy and on a store; secrets stay secret."""

from __future__ import annotations

import base64
import os
import pty
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.support.command import Ran, clean_environ, run_cli
from tests.support.processes import ProxyProcess, free_port
from tests.support.sim import Sim

CANARY = "sk-" + "canary" + "Q7z" * 8


def material(name: str) -> str:
    return f"sk-{name}-" + "x" * 12


class Shell:
    """Runs the command line with a fixed environment and remembers all that was printed."""

    def __init__(self, folder: Path, env: dict[str, str]) -> None:
        self.folder = folder
        self.env = env
        self.printed = ""

    def __call__(self, *arguments: str, stdin: str | None = None, status: int | None = 0) -> Ran:
        ran = run_cli(*arguments, folder=self.folder, env=self.env, stdin=stdin, status=status)
        self.printed += ran.all
        return ran


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


def life_of_a_key(cli: Shell) -> None:
    """Add, list, show, disable, enable, rotate, check, revoke."""
    added = cli("keys", "add", "--label", "mine", "--meta", "weight=2", "--stdin", "--json", stdin=f"{CANARY}\n").json
    assert (added["label"], added["provider_id"], added["metadata"]) == ("mine", "openai", {"weight": 2})
    identity = added["id"]

    assert "mine" in {key["label"] for key in cli("keys", "list", "--json").json}
    shown = cli("keys", "list").out
    assert "mine" in shown
    assert identity in shown
    assert "available" in shown

    assert cli("keys", "disable", "mine", "--reason", "lunch", "--json").json["state"] == "disabled"
    assert "available" in cli("keys", "enable", identity[:12]).out
    rotated = cli("keys", "rotate", "mine", "--json", stdin=material("rotated")).json
    assert (rotated["id"], rotated["version"]) == (identity, 2)
    (checked,) = cli("keys", "check", "mine", "--json").json
    assert checked["ok"]
    history = cli("keys", "show", "mine", "--json").json["history"]
    assert [line["to_state"] for line in history][:2] == ["disabled", "available"]
    assert history[0]["cause"] == "lunch"
    assert "lunch" in cli("keys", "show", "mine").out

    assert cli("keys", "revoke", "mine", "--yes", "--json").json["state"] == "retired"
    assert identity not in cli("keys", "list").out


def assert_no_canary(text: str) -> None:
    for form in (
        CANARY,
        CANARY.encode().hex(),
        base64.b64encode(CANARY.encode()).decode(),
        quote(CANARY, safe=""),
    ):
        assert form not in text


def test_a_key_lives_its_life_through_a_running_proxy(remote: Shell, fresh: ProxyProcess) -> None:
    life_of_a_key(remote)
    assert "Asking the proxy at" in remote.printed
    assert_no_canary(remote.printed + fresh.log)


def test_a_key_lives_its_life_on_the_store_when_no_proxy_runs(alone: Shell) -> None:
    life_of_a_key(alone)
    assert "No proxy is running; working on the store sqlite:" in alone.printed
    assert_no_canary(alone.printed)
    for file in alone.folder.rglob("*"):
        if file.is_file():
            assert CANARY.encode() not in file.read_bytes(), file


def test_several_lines_add_several_keys_and_a_duplicate_is_refused_without_being_shown(alone: Shell) -> None:
    lines = f"# team a\n{material('one')}\n\n{CANARY}\n"
    added = alone("keys", "add", "--label", "team", "--json", stdin=lines).json
    assert [key["label"] for key in added] == ["team-1", "team-2"]
    again = alone("keys", "add", "--stdin", stdin=CANARY, status=1)
    assert "registered already" in again.err
    assert_no_canary(alone.printed)


@pytest.mark.parametrize(
    "arguments",
    [
        ("keys", "add", CANARY),
        ("keys", "add", "--label", "x", CANARY),
        ("keys", "rotate", "mine", CANARY),
        ("keys", CANARY),
        ("keys", "add", f"--secret={CANARY}"),
        ("virtual-keys", "revoke", "x", CANARY),
    ],
    ids=["add", "add with a label", "rotate", "no verb", "an option", "virtual"],
)
def test_a_secret_on_the_command_line_is_refused_and_not_repeated(arguments: tuple[str, ...], tmp_path: Path) -> None:
    ran = run_cli(*arguments, folder=tmp_path, status=2)
    assert_no_canary(ran.all)
    assert ran.out == ""
    if arguments[1] in ("add", "rotate") and CANARY in arguments:
        assert "does not belong on the command line" in ran.err
        assert "--stdin" in ran.err


def test_a_name_that_no_key_has_is_not_repeated_because_it_may_be_a_secret(shared: Shell) -> None:
    ran = shared("keys", "show", CANARY, status=1)
    assert "No key has this label or id. There are: openai-1, openai-2, openai-3." in ran.err
    assert_no_canary(ran.all)


def test_a_name_that_fits_several_keys_is_refused_with_their_ids(shared: Shell) -> None:
    keys = shared("keys", "list", "--json").json
    ran = shared("keys", "disable", "key_", status=2)
    assert all(key["id"] in ran.err for key in keys)
    assert all(key["state"] == "available" for key in shared("keys", "list", "--json").json)


def test_nothing_on_standard_input_is_no_key(alone: Shell) -> None:
    assert "No key was on standard input" in alone("keys", "add", "--stdin", stdin="\n", status=2).err


def test_a_prompt_reads_the_secret_without_showing_it(alone: Shell) -> None:
    leader, follower = pty.openpty()
    command = [sys.executable, "-m", "apikeyrouter_proxy.cli", "keys", "add", "--label", "typed"]
    process = subprocess.Popen(
        command,
        cwd=alone.folder,
        env=clean_environ(alone.folder, alone.env),
        stdin=follower,
        stdout=follower,
        stderr=follower,
        start_new_session=True,
    )
    os.close(follower)
    seen = b""
    try:
        while b"not shown" not in seen:
            seen += os.read(leader, 4096)
        os.write(leader, CANARY.encode() + b"\n")
        while True:
            try:
                seen += os.read(leader, 4096)
            except OSError:  # Linux says so when the other side has closed
                break
        assert process.wait(30) == 0, seen
    finally:
        process.kill()
        process.wait()
        os.close(leader)
    assert b"Added typed" in seen
    assert_no_canary(seen.decode())


def test_virtual_keys_are_shown_once_and_work_until_revoked(fresh: ProxyProcess, tmp_path: Path) -> None:
    admin = "admin-" + "a1b2" * 6
    with_admin = Shell(tmp_path, {"PROXY_PORT": str(fresh.port), "APIKEYROUTER_ADMIN_KEY": admin})
    issued = with_admin("virtual-keys", "create", "joe", "--days", "1", "--model", "gpt-4o*", "--json").json
    assert issued["closes_open_mode"]
    assert issued["models"] == ["gpt-4o*"]
    secret = issued["key"]
    with_admin.printed = ""
    assert "joe" in with_admin("virtual-keys", "list").out
    assert secret not in with_admin.printed

    client = Shell(tmp_path, {"PROXY_PORT": str(fresh.port), "APIKEYROUTER_KEY": secret})
    assert client("chat", "Hello!", "--json").json["content"]
    refused = run_cli("chat", "Hello!", folder=tmp_path, env={"PROXY_PORT": str(fresh.port)}, status=1)
    assert "Set APIKEYROUTER_KEY" in refused.err
    with_admin("virtual-keys", "revoke", "joe")
    assert "Set APIKEYROUTER_KEY" in client("chat", "Hello!", status=1).err
    assert secret not in client.printed


def test_virtual_keys_are_made_on_the_store_as_well(alone: Shell) -> None:
    created = alone("virtual-keys", "create", "joe", "--admin")
    assert created.out.startswith("akr_")
    assert len(created.out.split()) == 1
    (listed,) = alone("virtual-keys", "list", "--json").json
    assert (listed["name"], listed["role"], listed["active"]) == ("joe", "admin", True)
    assert alone("virtual-keys", "revoke", listed["id"], "--json").json["active"] is False


def test_virtual_keys_get_a_team_and_tags(alone: Shell) -> None:
    created = alone(
        "virtual-keys", "create", "joe", "--team", "search", "--tag", "env=prod", "--tag", "a = b=c", "--json"
    )
    assert (created.json["team"], created.json["tags"]) == ("search", {"env": "prod", "a": "b=c"})
    assert "search" in alone("virtual-keys", "list").out
    refused = alone("virtual-keys", "create", "eve", "--tag", "prod", status=2)
    assert "name=value" in refused.err
    assert "team" in alone("virtual-keys", "create", "eve", "--tag", "team=search", status=1).err
    assert alone("virtual-keys", "list", "--json").json[-1]["name"] == "joe"
