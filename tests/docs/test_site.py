"""The documentation builds as a site: every page is in its navigation, every link and every anchor leads somewhere."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
WITHIN_S = 120


def test_the_site_builds_and_every_link_in_it_resolves(tmp_path: Path) -> None:
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")],
        cwd=ROOT, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True, timeout=WITHIN_S,
        check=False,
    )  # fmt: skip
    assert built.returncode == 0, built.stdout + built.stderr
    assert (tmp_path / "site" / "how-to" / "quota" / "index.html").exists()
    elsewhere = [
        page.name
        for page in (tmp_path / "site").rglob("*.html")
        if 'src="https://' in page.read_text() or 'rel="stylesheet" href="https://' in page.read_text()
    ]
    assert not elsewhere, "pages load something from elsewhere"
