"""Commands on the store of a proxy that serves with its embedded simulator: they leave the simulation as it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.command import run_cli
from tests.support.server import run_proxy

HELLO = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello!"}]}


@pytest.mark.parametrize("command", [("keys", "list"), ("budgets", "list"), ("prices", "overrides"), ("doctor",)])
def test_a_command_beside_a_running_simulation_ends_nothing(tmp_path: Path, command: tuple[str, ...]) -> None:
    url = f"sqlite:///{tmp_path / 'shared.db'}"
    with run_proxy(store_url=url) as (served, _):
        before = served.get("/api/v1/keys").json["data"]
        assert {one["provider_id"] for one in before} == {"simulated"}
        # as the proxy's own banner tells people to set it
        run_cli(*command, "--store", url, folder=tmp_path, env={"OPENAI_API_KEY": "unused"}, status=None)
        assert served.post("/v1/chat/completions", HELLO).status == 200
        after = served.get("/api/v1/keys").json["data"]
        assert [one["id"] for one in after] == [one["id"] for one in before]
        assert served.get("/api/v1/state").json["simulated"] is True
