"""What `/api/v1/openapi.json` says of the proxy is true: schemathesis asks a running proxy for all of it, and worse.

It makes requests that the description allows and such as it does not, for every operation, and looks at each answer:
no 5xx, and no status, content type or body that is not described; what was made is there, what was removed is gone. The
seed is fixed.
More cases than usual: APIKEYROUTER_SCHEMATHESIS_CASES=200 scripts/test tests/proxy/test_described_api.py
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.support.processes import proxy_process
from tests.support.sim import Sim

CASES = int(os.environ.get("APIKEYROUTER_SCHEMATHESIS_CASES", "4"))
"""Random cases per operation, besides the examples and the edges of every schema."""

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "use_after_free",
    "ensure_resource_availability",
)
SEED = 20261121


CONFIG = """
[[operations]]
include-path = "/readyz"
checks.not_a_server_error.expected-statuses = ["2xx", "3xx", "4xx", "503"]
"""
"""By then schemathesis may have revoked every key, and 503 is what a proxy without any says."""


def asked(origin: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Runs schemathesis on a proxy."""
    (folder / "schemathesis.toml").write_text(CONFIG)
    command = [str(Path(sys.executable).with_name("st")), "run", f"{origin}/api/v1/openapi.json", "--no-color"]
    command += [f"--seed={SEED}", f"--max-examples={CASES}", f"--checks={','.join(CHECKS)}"]
    command += ["--phases=examples,coverage,fuzzing,stateful", "--continue-on-failure", "--warnings=off"]
    environ = {"PATH": os.environ["PATH"], "HOME": str(folder), "LANG": "C.UTF-8"}
    return subprocess.run(
        command, cwd=folder, env=environ, capture_output=True, text=True, timeout=120 + 10 * CASES, check=False
    )


def test_the_proxy_does_what_its_description_says(sim: Sim, tmp_path: Path) -> None:
    with proxy_process(sim, tmp_path) as proxy:
        done = asked(proxy.origin, tmp_path)
        assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-2_000:]
        assert "Operations:       0" not in done.stdout
        assert proxy.get("/healthz")[0] == 200
        assert "Traceback" not in proxy.log
