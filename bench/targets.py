"""What is measured: the upstream itself, nginx, our proxy, LiteLLM, Portkey; how each is configured and started.

Entry: `build(names, upstream_port, folder)` gives targets; `target.start()` makes one ready, `target.stop()` ends it.
Laws: each gateway runs alone on its core with the settings its own documentation recommends for speed and the fastest
variant that `reference` measurements found; ours runs the full path (virtual key, 8 keys, hold, settle, metrics,
SQLite), never a shortcut.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from bench import local_http, processes
from bench.upstream import BURST_MODEL, PACED_MODEL

ROOT = Path(__file__).resolve().parent.parent
CACHE = Path(os.environ.get("BENCH_CACHE", ROOT / ".cache" / "bench")).resolve()
KEYS = 8
ORDER = ("direct", "nginx", "ours", "litellm", "portkey")


@dataclass
class Target:
    """One way to reach the upstream. `rate_per_s` is the open-loop load it is offered (requests per second)."""

    name: str
    port: int
    upstream_port: int
    folder: Path
    headers: dict[str, str] = field(default_factory=dict)
    rate_per_s: int = 200
    running: processes.Running | None = None
    ready_s: float = 0.0
    note: str = ""

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def missing(self) -> str | None:
        """Why this target cannot run here, or None."""
        return None

    def command(self) -> tuple[list[str], dict[str, str]]:
        """The command line and the environment added to ours; writes configuration into `folder`."""
        raise NotImplementedError

    def start(self) -> None:
        """Starts the process on the gateway's core and waits until it serves."""
        self.folder.mkdir(parents=True, exist_ok=True)
        command, env = self.command()
        began = time.perf_counter()
        self.running = processes.start(
            self.name, command, core=processes.GATEWAY_CORE, log=self.folder / "out.log", env=env, cwd=self.folder
        )
        processes.wait_listening(self.running, self.port, limit_s=120)
        self.prepare()
        self.ready_s = time.perf_counter() - began

    def prepare(self) -> None:
        """Whatever must happen after the port is open and before the first request."""

    def stop(self) -> None:
        if self.running is not None:
            self.running.stop()
            self.running = None


class Direct(Target):
    """The upstream without a gateway: the floor for latency and the ceiling for throughput."""

    def start(self) -> None:
        self.headers = {"Authorization": f"Bearer {_material()}"}


class Nginx(Target):
    """One nginx worker, keep-alive on both sides: what a C proxy that decides nothing costs."""

    def missing(self) -> str | None:
        return None if shutil.which("nginx", path=_SBIN) else "nginx is not installed (bench/setup.sh)"

    def command(self) -> tuple[list[str], dict[str, str]]:
        config = self.folder / "nginx.conf"
        config.write_text(_NGINX.format(port=self.port, upstream=self.upstream_port, folder=self.folder))
        binary = shutil.which("nginx", path=_SBIN) or "nginx"
        return [binary, "-c", str(config), "-p", str(self.folder), "-e", str(self.folder / "error.log")], {}


class LiteLLM(Target):
    """LiteLLM's proxy, quiet, on Granian: the fastest of the settings that were tried.

    It refuses to start without a master key, so every request shows one, as every request to ours shows a virtual key.
    There is no database (its client needs an engine that no package carries), so it counts no spend; one deployment a
    model.
    """

    master_key: str = ""

    def missing(self) -> str | None:
        return None if self._binary().exists() else "LiteLLM is not installed (bench/setup.sh)"

    def _binary(self) -> Path:
        return CACHE / "litellm" / "bin" / "litellm"

    def command(self) -> tuple[list[str], dict[str, str]]:
        self.master_key = _material()
        parameters = {"api_base": f"http://127.0.0.1:{self.upstream_port}/v1", "api_key": _material()}
        config = self.folder / "config.yaml"
        # JSON is YAML, so no YAML library is needed to write it.
        models = [
            {"model_name": name, "litellm_params": {"model": f"openai/{name}", **parameters}}
            for name in (BURST_MODEL, PACED_MODEL)
        ]
        config.write_text(json.dumps({"model_list": models}))
        env = {
            "LITELLM_MASTER_KEY": self.master_key,
            "LITELLM_LOG": "ERROR",
            "LITELLM_MODE": "PRODUCTION",
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "LITELLM_TELEMETRY": "False",
        }
        command = [
            str(self._binary()),
            "--config",
            str(config),
            "--host",
            "127.0.0.1",
            "--port",
            str(self.port),
            "--num_workers",
            "1",
        ]
        server = os.environ.get("BENCH_LITELLM_SERVER", "granian")
        return [*command, *(["--run_granian"] if server == "granian" else [])], env

    def prepare(self) -> None:
        self.headers = {"Authorization": f"Bearer {self.master_key}"}
        local_http.wait_ok(self.port, "/health/liveliness", limit_s=120)


class Portkey(Target):
    """Portkey's open gateway on Node.js; it has no key pool, so each request's headers name provider, host and key."""

    def missing(self) -> str | None:
        if not shutil.which("node"):
            return "Node.js is not installed"
        return None if self._script().exists() else "Portkey is not installed (bench/setup.sh)"

    def _script(self) -> Path:
        return CACHE / "portkey" / "node_modules" / "@portkey-ai" / "gateway" / "build" / "start-server.js"

    def command(self) -> tuple[list[str], dict[str, str]]:
        upstream = f"127.0.0.1:{self.upstream_port}"
        return (
            ["node", str(self._script()), f"--port={self.port}", "--headless"],
            {"NODE_ENV": "production", "TRUSTED_CUSTOM_HOSTS": f"127.0.0.1,localhost,{upstream}"},
        )

    def prepare(self) -> None:
        self.headers = {
            "Authorization": f"Bearer {_material()}",
            "x-portkey-provider": "openai",
            "x-portkey-custom-host": f"http://127.0.0.1:{self.upstream_port}/v1",
        }


class Ours(Target):
    """`apikeyrouter serve`: 8 keys, SQLite, an admin key, a virtual key that every request must show."""

    admin_key: str = ""

    def missing(self) -> str | None:
        return None if self._binary().exists() else "apikeyrouter is not installed in this environment"

    def _binary(self) -> Path:
        return Path(sys.executable).with_name("apikeyrouter")

    @property
    def store_path(self) -> Path:
        return self.folder / "router.sqlite"

    def command(self) -> tuple[list[str], dict[str, str]]:
        for old in self.folder.glob("router.sqlite*"):
            shutil.rmtree(old) if old.is_dir() else old.unlink()
        self.admin_key = _material("admin-")
        env = {f"OPENAI_API_KEY_{number}": _material() for number in range(1, KEYS + 1)}
        env |= {
            "OPENAI_BASE_URL": f"http://127.0.0.1:{self.upstream_port}/v1",
            "APIKEYROUTER_STORE": f"sqlite:///{self.store_path}",
            "APIKEYROUTER_ENCRYPTION_KEY": _material(),
            "APIKEYROUTER_ADMIN_KEY": self.admin_key,
        }
        return [str(self._binary()), "serve", "--port", str(self.port)], env

    def prepare(self) -> None:
        local_http.wait_ok(self.port, "/readyz", limit_s=30)
        reply = self.manage("POST", "virtual-keys", {"name": "bench"})
        self.headers = {"Authorization": f"Bearer {reply['key']}"}

    def accounting(self) -> dict[str, object]:
        """What the proxy says about itself after the load, to show that it counted: at rest nothing may be held."""
        try:
            return self.manage("GET", "state")
        except (OSError, ValueError, RuntimeError) as error:
            return {"unavailable": str(error)}

    def manage(self, method: str, path: str, body: object | None = None) -> dict[str, object]:
        """One call of the management API; the reply as a dict."""
        headers = {"X-API-Key": self.admin_key, "Authorization": f"Bearer {self.admin_key}"}
        return local_http.call_json(self.port, method, f"/api/v1/{path}", body, headers)


_SBIN = os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin"
_KINDS: dict[str, type[Target]] = {
    "direct": Direct,
    "nginx": Nginx,
    "ours": Ours,
    "litellm": LiteLLM,
    "portkey": Portkey,
}
# LiteLLM saturates near 130 requests a second on one core: at 200 its queue would only grow, so it is asked for 50.
_RATES = {"litellm": 50}
RATES_PER_S = (200, 50)

_NGINX = """worker_processes 1;
daemon off;
pid {folder}/nginx.pid;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    keepalive_requests 100000000;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    upstream mock {{ server 127.0.0.1:{upstream}; keepalive 128; keepalive_requests 100000000; }}
    server {{
        listen 127.0.0.1:{port} backlog=1024;
        location / {{
            proxy_pass http://mock;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
        }}
    }}
}}
"""


def build(names: list[str], upstream_port: int, folder: Path) -> list[Target]:
    """Targets in the fixed order, each with a port of its own (direct: the upstream's)."""
    return [
        _KINDS[name](
            name,
            upstream_port if name == "direct" else processes.free_port(),
            upstream_port,
            folder / name,
            rate_per_s=_RATES.get(name, 200),
        )
        for name in ORDER
        if name in names
    ]


def _material(prefix: str = "sk-") -> str:
    """A credential-shaped value made for this run only."""
    return prefix + secrets.token_hex(20)
