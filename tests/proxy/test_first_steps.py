"""The five things that a new user tries, through the real command, a real proxy and a simulated provider.

Each asserts what the user reads and the exit status, and each hint that one step prints (a command between backquotes)
is run as the next step: a hint that does not work is worse than none.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.command import Ran, run_cli
from tests.support.processes import ProxyProcess, proxy_process
from tests.support.sim import Sim

CHAT = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 5}
NEW = "sk-first-steps-new"
MASTER = "-".join(("sk", "of", "the", "whole", "team"))


class User:
    """Somebody at a terminal, in a folder, whose proxy runs."""

    def __init__(self, proxy: ProxyProcess, folder: Path) -> None:
        self.proxy = proxy
        self.folder = folder

    def types(self, command: str, *, stdin: str | None = None, status: int = 0) -> Ran:
        """Runs a command line that begins with `apikeyrouter`."""
        program, *arguments = shlex.split(command)
        assert program == "apikeyrouter", command
        env = {"APIKEYROUTER_URL": self.proxy.origin}
        return run_cli(*arguments, folder=self.folder, env=env, stdin=stdin, status=status)

    def asks(self, **changes: Any) -> tuple[int, Any]:
        return self.proxy.post("/v1/chat/completions", {**CHAT, **changes})


def hints(ran: Ran) -> list[str]:
    """The commands that an output names."""
    return re.findall(r"`(apikeyrouter [^`]+)`", ran.all)


def row(ran: Ran, *words: str) -> str:
    (found,) = [line for line in ran.out.splitlines() if all(word in line for word in words)]
    return found


@pytest.fixture
def user(sim: Sim, tmp_path: Path) -> Iterator[User]:
    """Two keys at work."""
    with proxy_process(sim, tmp_path, keys=sim.keys[:2]) as proxy:
        yield User(proxy, tmp_path)


def test_a_key_is_added_while_it_runs_and_tried_as_the_hint_says(user: User, sim: Sim) -> None:
    sim.add_account("another account", NEW)
    added = user.types("apikeyrouter keys add --label team-a", stdin=f"export OPENAI_API_KEY='{NEW}'\n")
    assert re.search(r"Added team-a \(key_[0-9a-f]+\) to openai\.", added.out)
    assert NEW not in added.all
    (hint,) = hints(added)
    assert hint == "apikeyrouter keys check team-a"
    assert "works" in row(user.types(hint), "team-a")
    assert "available" in row(user.types("apikeyrouter keys list"), "team-a")
    for _ in range(3):
        assert user.asks()[0] == 200
    assert sim.seen(NEW) >= 1, "it takes its turn at once"
    shown = user.types("apikeyrouter keys show team-a")
    assert "available" in shown.out
    assert NEW not in shown.all


def test_a_key_that_the_provider_refuses_is_told_by_the_check(user: User, sim: Sim) -> None:
    sim.fault("sk-nobody-knows-this", "revoked")
    added = user.types("apikeyrouter keys add --label wrong", stdin="sk-nobody-knows-this\n")
    (hint,) = hints(added)
    assert "fails" in row(user.types(hint, status=1), "wrong", "401")
    told = user.types("apikeyrouter doctor", status=1)
    assert re.search(r"fail Key wrong: .*\n +.*", told.out), "what to do stands in the line below"


def test_what_is_no_key_is_refused_with_what_to_do(user: User) -> None:
    address = user.types("apikeyrouter keys add", stdin="https://api.openai.com\n", status=1)
    assert "is an address" in address.err
    assert "provider's console" in address.err
    two = user.types("apikeyrouter keys add", stdin="sk-one sk-two\n", status=1)
    assert "white space at position 7" in two.err
    assert "sk-" not in two.err
    assert "Pipe it in (--stdin)" in user.types("apikeyrouter keys add", stdin="\n", status=2).err


def test_five_dollars_a_day_are_a_cap_that_is_seen_and_holds(user: User) -> None:
    made = user.types("apikeyrouter budgets create --limit 5 --period day")
    assert re.search(r"Created budget_\w+: \$5 a day for everything\. .* refused with status 402", made.out)
    (hint,) = hints(made)
    assert "$5 a day" in row(user.types(hint), "everything")
    assert user.asks()[0] == 200
    trial = user.types("apikeyrouter route gpt-4o-mini")
    assert "Selected openai-" in trial.out, "the longest reply costs less than five dollars, so it would be served"
    status, refused = user.asks(
        model="gpt-4o", max_tokens=10, n=128, messages=[{"role": "user", "content": "x" * 9_000_000}]
    )
    assert status == 402
    assert refused["error"]["code"] == "budget_exceeded"
    assert "$5" in refused["error"]["message"]
    assert "$5 a day" in row(user.types("apikeyrouter budgets list"), "everything")
    assert "gpt-4o-mini" in user.types("apikeyrouter spend").out


def test_a_trial_is_refused_by_a_budget_that_has_too_little_left_for_it(user: User) -> None:
    user.types("apikeyrouter budgets create --limit 0.0001 --period day")
    trial = user.types("apikeyrouter route gpt-4o-mini", status=1)
    assert re.search(r"budget_\w+ has \$0\.000100 left, \$0\.\d+ needed", trial.out)


def test_why_key_2_was_chosen_is_found_in_two_commands(user: User) -> None:
    for _ in range(4):
        assert user.asks()[0] == 200
    listed = user.types("apikeyrouter decisions list --key openai-2")
    assert "openai-1" not in listed.out
    assert len(re.findall(r"\bopenai-2\b", listed.out)) == 2
    (hint,) = hints(listed)
    assert hint == "apikeyrouter decisions show ID"
    (decision_id,) = re.findall(r"such as (dec_\w+)\.", listed.err)
    why = user.types(hint.replace("ID", decision_id))
    assert why.out.startswith("Selected openai-2 because its turn comes first (fairness: ")
    assert row(why, "openai-2", "selected").split()[0] == "openai-2"
    assert row(why, "openai-1", "its turn comes later").split()[0] == "openai-1"
    assert "What would change it: openai-1 " in why.out
    missing = user.types("apikeyrouter decisions show dec_nothing", status=1)
    assert "No decision or request has the id 'dec_nothing'" in missing.err
    assert "openai-1, openai-2" in user.types("apikeyrouter decisions list --key openai-9", status=1).err


def test_a_key_that_runs_dry_is_seen_and_told_before_it_is_refused(sim: Sim, tmp_path: Path) -> None:
    keys = ("sk-first-steps-small", "sk-first-steps-large")
    for key, rpm in zip(keys, (6, 600), strict=True):
        sim.add_account(f"account of {key}", key, limits={"rpm": rpm, "tpm": 1_000_000})
    with proxy_process(sim, tmp_path, keys=keys) as proxy:
        user = User(proxy, tmp_path)
        first = user.types("apikeyrouter quota")
        assert "No limit is known of openai/openai-1, openai/openai-2" in first.err
        for _ in range(20):
            assert user.asks()[0] == 200
        small = "abundant"
        for _ in range(5):
            if "abundant" in small:  # what is foreseen goes by whole seconds; the command may be faster than the first
                told = user.types("apikeyrouter quota")
                small = row(told, "openai/openai-1", "requests per minute")
        assert re.search(r"[0-3] of 6 ", small)
        assert "abundant" not in small
        assert "abundant" in row(told, "openai/openai-2", "requests per minute")
        assert "openai-1" in user.types("apikeyrouter quota --key openai-1").out
        assert set(sim.key(keys[0])["by_status"]) == {"200"}, "traffic moved before it was refused"


LITELLM = """\
model_list:
  - model_name: fast
    litellm_params: {model: openai/gpt-4o-mini, api_base: BASE, api_key: os.environ/TEAM_KEY, rpm: 60}
  - model_name: fast
    litellm_params: {model: openai/gpt-4o-mini, api_base: BASE, api_key: os.environ/SPARE_KEY}
  - model_name: strong
    litellm_params: {model: openai/gpt-4o, api_base: BASE, api_key: os.environ/TEAM_KEY}
router_settings: {fallbacks: [{fast: [strong]}], num_retries: 2}
litellm_settings: {callbacks: [langfuse]}
general_settings: {master_key: os.environ/LITELLM_MASTER_KEY, database_url: os.environ/DATABASE_URL}
"""


@pytest.fixture
def moving(sim: Sim, tmp_path: Path) -> Path:
    """A folder with LiteLLM's file and its `.env`, as they lie on somebody's machine."""
    (tmp_path / "litellm.yaml").write_text(LITELLM.replace("BASE", sim.base_url))
    lines = [f"export TEAM_KEY='{sim.keys[0]}'", f'SPARE_KEY="{sim.keys[1]}"', f"LITELLM_MASTER_KEY={MASTER}"]
    (tmp_path / ".env").write_text("\n".join(lines))
    return tmp_path


def check_moved(proxy: ProxyProcess, sim: Sim) -> None:
    """Clients go on as they were: the same names, the same key."""
    clients = {"Authorization": f"Bearer {MASTER}"}
    for model in ("fast", "strong"):
        status, answer = proxy.post("/v1/chat/completions", {**CHAT, "model": model}, clients)
        assert status == 200, answer
    assert proxy.post("/v1/chat/completions", {**CHAT, "model": "fast"})[0] == 401
    assert {"fast", "strong"} <= {one["id"] for one in proxy.get("/v1/models", clients)[1]["data"]}
    assert sim.seen(sim.keys[0]) + sim.seen(sim.keys[1]) >= 2


def test_a_file_of_litellm_serves_as_it_is(moving: Path, sim: Sim) -> None:
    with proxy_process(None, moving, serve_arguments=["--config", "litellm.yaml"]) as proxy:
        assert re.search(r"\* litellm\.yaml:\d+:\d+: litellm_settings\.callbacks", proxy.log)
        assert '"model": "fast"' in proxy.log, "the example names a model of this file"
        assert "Set APIKEYROUTER_KEY for the examples" in proxy.log
        check_moved(proxy, sim)


def test_moving_from_litellm_takes_the_commands_that_each_step_names(moving: Path, sim: Sim) -> None:
    made = run_cli("import", "litellm", "litellm.yaml", "-o", "apikeyrouter.yaml", folder=moving)
    assert "Wrote apikeyrouter.yaml: 2 keys, 2 deployments." in made.out
    assert "Not taken: litellm.yaml:" in made.err
    assert "litellm_settings.callbacks" in made.err
    assert "general_settings.database_url" in made.err
    again = run_cli("import", "litellm", "litellm.yaml", "-o", "apikeyrouter.yaml", folder=moving, status=2)
    assert "is there already" in again.err
    assert "--force" in again.err
    (check,) = hints(made)
    checked = run_cli(*shlex.split(check)[1:], folder=moving)
    assert "apikeyrouter.yaml: nothing is wrong. It defines 2 keys, 2 deployments." in checked.out
    (start,) = hints(checked)
    program, verb, *arguments = shlex.split(start)
    assert (program, verb) == ("apikeyrouter", "serve")
    with proxy_process(None, moving, serve_arguments=arguments) as proxy:
        check_moved(proxy, sim)
        keys = run_cli("keys", "list", folder=moving, env={"APIKEYROUTER_URL": proxy.origin})
        assert keys.out.count(" available ") == 2


def test_a_variable_that_the_file_wants_and_nobody_sets_is_named_with_its_line(moving: Path) -> None:
    (moving / ".env").write_text("")
    ran = run_cli("serve", "--config", "litellm.yaml", folder=moving, status=2)
    assert re.search(r"litellm\.yaml:3:\d+: keys\.\S+\.secret: the environment has no TEAM_KEY; set it", ran.err)
    assert ran.err.count("the environment has no ") == 3, "all of them at once"
