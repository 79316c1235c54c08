"""Compose, Kubernetes, systemd and the image: valid by their own schemas, locked down, without a default password."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.processes import free_port

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
MANIFESTS = sorted(
    path for path in (DEPLOY / "kubernetes").rglob("*.yaml") if path.name not in ("kustomization.yaml", "monitor.yaml")
)
SECRET = re.compile(r"PASSWORD|SECRET|_KEY$|TOKEN")
INSTALL_WITHIN_S, SERVES_WITHIN_S = 240, 30


def tool(name: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", name, *arguments], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def documents(path: Path) -> list[dict[str, Any]]:
    return [one for one in yaml.safe_load_all(path.read_text()) if one]


def test_compose_is_valid() -> None:
    tool("check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(DEPLOY / "compose.yaml"))


def test_no_password_of_compose_has_a_default() -> None:
    text = (DEPLOY / "compose.yaml").read_text()
    services = yaml.safe_load(text)["services"]
    held = {
        n: v for service in services.values() for n, v in service.get("environment", {}).items() if SECRET.search(n)
    }
    assert {"APIKEYROUTER_ADMIN_KEY", "GF_SECURITY_ADMIN_PASSWORD", "LITELLM_MASTER_KEY"} <= set(held)
    for name, value in held.items():
        assert re.fullmatch(r"\$\{\w+(:-|:\?[^}]+)\}", value), f"{name} has a value of its own"


def test_services_are_reached_from_this_machine_only_and_have_no_powers() -> None:
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    assert {"proxy", "prometheus", "grafana", "litellm"} == set(services)
    for name, service in services.items():
        assert all(port.startswith("127.0.0.1:") for port in service["ports"]), name
        assert service["cap_drop"] == ["ALL"]
    assert services["proxy"]["read_only"] is True
    assert services["prometheus"]["profiles"] == services["grafana"]["profiles"] == ["monitoring"]


def test_what_compose_mounts_is_there() -> None:
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    mounted = [volume.split(":")[0] for service in services.values() for volume in service.get("volumes", [])]
    for source in mounted:
        if source.startswith("."):
            assert (DEPLOY / source).exists(), source


@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda path: path.stem)
def test_a_manifest_is_valid(manifest: Path) -> None:
    tool("kubernetes_validate", "--strict", str(manifest))


def test_kustomizations_name_files_that_are_there() -> None:
    for path in (DEPLOY / "kubernetes").rglob("kustomization.yaml"):
        for resource in documents(path)[0]["resources"]:
            assert (path.parent / resource).exists(), resource


def test_pods_run_as_nobody_read_only_with_secrets_by_reference_and_survive_disruption() -> None:
    (deployment,) = documents(DEPLOY / "kubernetes" / "base" / "deployment.yaml")
    pod = deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
    }  # fmt: skip
    assert {"startupProbe", "livenessProbe", "readinessProbe", "resources"} <= set(container)
    assert all("value" not in variable for variable in container["env"] if SECRET.search(variable["name"]))
    (budget,) = documents(DEPLOY / "kubernetes" / "base" / "disruption.yaml")
    assert budget["spec"]["minAvailable"] < deployment["spec"]["replicas"]


def test_the_unit_is_valid(tmp_path: Path) -> None:
    verify = shutil.which("systemd-analyze")
    if verify is None:
        pytest.skip("systemd is not on this machine")
    unit = (
        (DEPLOY / "systemd" / "apikeyrouter.service")
        .read_text()
        .replace("/opt/apikeyrouter/bin/apikeyrouter", "/bin/true")
    )
    (tmp_path / "apikeyrouter.service").write_text(unit)
    done = subprocess.run(
        [verify, "verify", str(tmp_path / "apikeyrouter.service")], capture_output=True, text=True, check=False
    )
    assert not [line for line in done.stderr.splitlines() if "apikeyrouter.service" in line], done.stderr


def test_what_the_image_copies_is_sent_to_the_builder() -> None:
    image = (DEPLOY / "Dockerfile").read_text()
    sent = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    for line in re.findall(r"^COPY (?!--from)(.+) \S+$", image, re.MULTILINE):
        for source in shlex.split(line):
            assert (ROOT / source).exists(), source
            assert source in sent, source
    assert re.search(r"^USER 10001", image, re.MULTILINE)


def test_the_steps_of_the_image_install_a_proxy_that_serves_from_a_folder_that_it_may_write_to(tmp_path: Path) -> None:
    """As a script on this machine: deploy/build.sh, then the image's own environment and command."""
    target, data = tmp_path / "opt", tmp_path / "data"
    data.mkdir()
    bare = {
        name: os.environ[name] for name in ("PATH", "HOME", "PIP_INDEX_URL", "PIP_CONFIG_FILE") if name in os.environ
    }
    built = subprocess.run(
        [str(DEPLOY / "build.sh"), str(target)], env={**bare, "PYTHON": sys.executable}, capture_output=True, text=True,
        timeout=INSTALL_WITHIN_S, check=False,
    )  # fmt: skip
    assert built.returncode == 0, built.stdout + built.stderr
    environment = dict(
        re.findall(r"^\s*(?:ENV )?([A-Z_]+)=(\S+)(?: \\)?$", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE)
    )
    environment["APIKEYROUTER_STORE"] = environment["APIKEYROUTER_STORE"].replace("/data/", f"{data}/")
    port = free_port()
    environment |= {"PATH": bare["PATH"], "PROXY_PORT": str(port), "APIKEYROUTER_ADMIN_KEY": "admin-" + "k" * 20}
    process = subprocess.Popen(
        [str(target / "bin" / "apikeyrouter"), "serve"], env=environment, cwd=data, stdout=subprocess.PIPE, text=True
    )
    try:
        lines = iter(process.stdout or ())
        assert any(f":{port}" in line for line in lines), "it did not start"
        check = re.search(r'CMD \["python", "-c", "(.+)"\]', (DEPLOY / "Dockerfile").read_text())
        assert check is not None
        probe = json.loads(f'"{check[1]}"')
        subprocess.run(
            [str(target / "bin" / "python"), "-c", probe], env=environment, check=True, timeout=SERVES_WITHIN_S
        )
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/livez", timeout=5) as answer:
            assert answer.status == 200
        assert (data / "state.sqlite").exists()
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) in (0, -signal.SIGTERM, 128 + signal.SIGTERM)
        if process.stdout:
            process.stdout.close()
