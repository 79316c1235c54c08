"""One configuration, several processes: what one of them reads again holds in all."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from tests.support.config_files import Configured, configured, until
from tests.support.sim import Sim

TEXT = """
server: {admin_key: "${ADMIN_KEY}", workers: 2, require_auth: true}
providers: {openai: {base_url: "${SIM_URL}"}}
keys:
  a: {provider: openai, secret: "${SIM_KEY_1}"}
"""
CLIENT = "sk-client-of-the-tests-02"


def admitted_everywhere(running: Configured) -> bool:
    """Twenty connections in a row, which workers share."""
    return all(running.chat(key=CLIENT)[0] == 200 for _ in range(20))


def test_a_reload_holds_in_every_worker_and_after_a_restart_of_one(sim: Sim, tmp_path: Path) -> None:
    with configured(sim, tmp_path, TEXT) as running:
        assert running.chat(key=CLIENT)[0] == 401
        running.write(
            TEXT + f"virtual_keys: {{c: {{secret: {CLIENT}}}}}\ndeployments: {{d: {{targets: openai/gpt-4o}}}}\n"
        )
        running.hang_up()
        until(lambda: admitted_everywhere(running), "both workers took the key in")
        assert all("d" in running.rows("deployments") for _ in range(8))
        running.write("keys: [")
        running.hang_up()
        until(lambda: "nothing was changed" in running.proxy.log, "the fault was logged")
        assert admitted_everywhere(running)
        running.write(TEXT)
        assert running.reload()[0] == 200
        until(lambda: all(running.chat(key=CLIENT)[0] != 200 for _ in range(12)), "both workers let the key go")


def test_a_worker_that_takes_anothers_place_runs_what_the_others_read_meanwhile(sim: Sim, tmp_path: Path) -> None:
    with configured(sim, tmp_path, TEXT) as running:
        running.write(TEXT + f"virtual_keys: {{c: {{secret: {CLIENT}}}}}\n")
        running.hang_up()
        until(lambda: admitted_everywhere(running), "both workers took the key in")
        for victim in running.workers():
            before = set(running.workers())
            os.kill(victim, signal.SIGKILL)
            until(lambda before=before: len(set(running.workers()) - before) == 1, "another one came")  # type: ignore[misc]
            until(lambda: "apikeyrouter_workers 2.0" in str(running.ask("GET", "/metrics")[1]), "it serves")
        assert admitted_everywhere(running)
