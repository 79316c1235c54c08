"""What is published: both distributions build, hold what they must, and nothing that runs by itself."""

from __future__ import annotations

import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = {"core": "apikeyrouter", "proxy": "apikeyrouter_proxy"}


@pytest.mark.parametrize("name", PACKAGES)
def test_the_wheel_is_whole(name: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), f"packages/{name}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    inside = zipfile.ZipFile(wheel).namelist()
    package = PACKAGES[name]
    sources = {str(p.relative_to(ROOT / "packages" / name)) for p in (ROOT / "packages" / name / package).rglob("*.py")}
    assert sources <= set(inside)
    assert f"{package}/py.typed" in inside
    assert any(path.endswith("LICENSE") for path in inside)
    assert all(path.startswith((f"{package}/", f"apikeyrouter_{name}-")) for path in inside)
    assert not [path for path in inside if path.endswith((".pth", ".pyc", ".key", ".sqlite"))]
    if name == "core":
        assert any(path.endswith(".sql") for path in inside), "the store's migrations are missing"


def test_the_core_stays_small() -> None:
    project = tomllib.loads((ROOT / "packages/core/pyproject.toml").read_text())["project"]
    assert len(project["dependencies"]) <= 8
