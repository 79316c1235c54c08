"""What the shell offers after Tab, in a real bash and from the scripts that are installed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.command import clean_environ, run_cli
from tests.support.processes import ProxyProcess, free_port

NAMED = {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
"""The shell is named instead of looked for among the processes above: whatever runs these tests is none of theirs."""

BIN = Path(sys.executable).parent
ASK = """
source "$HOME/.bash_completions/apikeyrouter.sh"
function=$(complete -p apikeyrouter | sed 's/.*-F \\([^ ]*\\) .*/\\1/')
COMP_WORDS=(apikeyrouter "$@")
COMP_CWORD=$#
"$function" apikeyrouter
printf '%s\\n' "${COMPREPLY[@]}"
"""


def offered(folder: Path, *words: str, port: int) -> list[str]:
    """What bash offers for the last word."""
    if not (folder / ".bash_completions").exists():
        run_cli("--install-completion", "bash", folder=folder, env=NAMED)
    env = {**clean_environ(folder, {"PROXY_PORT": str(port)}), "PATH": f"{BIN}:/usr/bin:/bin"}
    done = subprocess.run(
        ["bash", "-c", ASK, "bash", *words], env=env, cwd=folder, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stderr == ""
    return done.stdout.split()


def test_verbs_and_options_are_offered_where_no_proxy_runs(tmp_path: Path) -> None:
    port = free_port()
    assert offered(tmp_path, "do", port=port) == ["doctor"]
    assert {"add", "list", "rotate"} <= set(offered(tmp_path, "keys", "", port=port))
    assert "--objective" in offered(tmp_path, "route", "--ob", port=port)
    assert offered(tmp_path, "keys", "rotate", "", port=port) == []


def test_labels_of_keys_and_names_of_models_are_offered_by_the_running_proxy(
    proxy_server: ProxyProcess, tmp_path: Path
) -> None:
    port = proxy_server.port
    assert "openai-1" in offered(tmp_path, "keys", "rotate", "open", port=port)
    assert "gpt-4o-mini" in offered(tmp_path, "doctor", "--model", "gpt-4o", port=port)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_there_is_a_script_for_every_shell(shell: str, tmp_path: Path) -> None:
    script = run_cli("--show-completion", shell, folder=tmp_path, env=NAMED).out
    assert f"complete_{shell}" in script
    assert "apikeyrouter" in script
    run_cli("--install-completion", shell, folder=tmp_path, env=NAMED)
    assert [path for path in tmp_path.rglob("*") if path.is_file() and "complete_" in path.read_text()]


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (("budgets", "show", "mon"), "month"),
        (("virtual-keys", "revoke", "bil"), "billing"),
        (("deployments", "show", "fa"), "fast"),
        (("policies", "show", "no-"), "no-four"),
        (("providers", "remove", "open"), "openai"),
        (("route", "--objective", "cos"), "cost"),
    ],
)
@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_names_of_every_kind_are_offered_to_every_shell(
    shell: str, words: tuple[str, ...], name: str, named: ProxyProcess, tmp_path: Path
) -> None:
    """By the very call that the shell's installed script makes: typer's protocol of variables."""
    line = " ".join(("apikeyrouter", *words))
    asked = {
        "bash": {"COMP_WORDS": line, "COMP_CWORD": str(len(words))},
        "zsh": {"_TYPER_COMPLETE_ARGS": line},
        "fish": {"_TYPER_COMPLETE_ARGS": line, "_TYPER_COMPLETE_FISH_ACTION": "get-args"},
    }[shell]
    env = {"_APIKEYROUTER_COMPLETE": f"complete_{shell}", "PROXY_PORT": str(named.port), **NAMED, **asked}
    assert name in run_cli(folder=tmp_path, env=env).out


@pytest.fixture(scope="module")
def named(proxy_server: ProxyProcess) -> ProxyProcess:
    made = [
        ("POST", "/api/v1/budgets", {"limit": "100", "period": "monthly", "name": "month"}),
        ("PUT", "/api/v1/deployments/fast", {"targets": ["openai/gpt-4o-mini"]}),
        ("PUT", "/api/v1/policies/no-four", {"blocked_models": ["gpt-4"]}),
        ("POST", "/api/v1/virtual-keys", {"name": "billing"}),
    ]
    for method, path, body in made:
        assert proxy_server.ask(method, path, body)[0] in (200, 201), path
    return proxy_server
