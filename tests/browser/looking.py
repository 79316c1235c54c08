"""Looking at the dashboard with a real browser: Debian's Chromium, driven by Playwright.

Main entries: `chromium`, which says how to get one when there is none, `Watch`, which notices everything that a page
must never do (console messages, failed or foreign requests, breaches of its own policy), and `axe_findings`.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import Browser, Page, Request, Response, sync_playwright

import apikeyrouter_proxy.dashboard

__all__ = ["AXE", "PAGES", "Watch", "axe_findings", "chromium", "open_browser", "sign_in"]

ROOT = Path(__file__).parents[2]
STATIC = Path(apikeyrouter_proxy.dashboard.__file__).parent / "static"
PAGES: list[str] = re.findall(r'\{ page: "([^"]*)"', (STATIC / "pages" / "index.js").read_text())
"""Every page, as the dashboard itself lists them."""

AXE = ROOT / "tests/node/node_modules/axe-core/axe.min.js"
_NAMES = ("chromium", "chromium-browser", "google-chrome")
_BREACHES = """addEventListener("securitypolicyviolation",
  (event) => console.error("policy breach: " + event.violatedDirective + " " + event.blockedURI));"""


def chromium() -> str:
    """The browser's path. Raises AssertionError with what to do when there is none."""
    found = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, _NAMES)), None)
    assert found, (
        "The dashboard is tested in a real browser, and no Chromium is here. Run `scripts/install dev` as root, or: "
        "sudo apt-get install --no-install-recommends chromium (or set CHROMIUM=/path/to/it)."
    )
    return found


@contextmanager
def open_browser() -> Iterator[Browser]:
    """A browser without a window."""
    sandbox = os.geteuid() != 0  # Chromium refuses its sandbox to root
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), chromium_sandbox=sandbox)
        try:
            yield browser
        finally:
            browser.close()


@dataclass
class Watch:
    """What a page did that it must not do. `origin`: the only place it may ask. `refusals`: statuses of replies that
    belong to the test."""

    origin: str
    refusals: tuple[int, ...] = ()
    faults: list[str] = field(default_factory=list)
    requests: int = 0

    def over(self, page: Page) -> Watch:
        """Watches this page from now on."""
        page.add_init_script(_BREACHES)
        page.on("console", lambda said: self._said(said.type, said.text))
        page.on("pageerror", lambda error: self.faults.append(f"uncaught: {error}"))
        page.on("request", self._asked)
        page.on("requestfailed", self._failed)
        page.on("response", self._answered)
        return self

    def expect_nothing(self) -> None:
        """Fails with all that was noticed."""
        assert self.requests, "nothing was loaded at all"
        faults = [
            one
            for one in self.faults
            if not any(f"answered {n}:" in one or f"status of {n} " in one for n in self.refusals)
        ]
        assert not faults, "\n".join(faults)

    def _said(self, kind: str, text: str) -> None:
        if kind in ("error", "warning"):
            self.faults.append(f"console {kind}: {text}")

    def _asked(self, request: Request) -> None:
        self.requests += 1
        parts = urlsplit(request.url)
        if parts.scheme not in ("data", "blob") and f"{parts.scheme}://{parts.netloc}" != self.origin:
            self.faults.append(f"asked somebody else: {request.url}")

    def _failed(self, request: Request) -> None:
        if "ERR_ABORTED" not in (request.failure or ""):  # the page itself gave it up
            self.faults.append(f"request failed: {request.method} {request.url}: {request.failure}")

    def _answered(self, response: Response) -> None:
        if response.status >= 400:
            self.faults.append(f"answered {response.status}: {response.request.method} {response.url}")


def sign_in(page: Page, key: str) -> None:
    """Types the key into the form that the page shows."""
    page.get_by_label("Admin key").fill(key)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("navigation", name="Pages").wait_for(state="attached")


def axe_findings(page: Page) -> list[str]:
    """Findings of impact serious or critical, one line each (https://github.com/dequelabs/axe-core/blob/develop/doc/
    API.md, read 2026-11-21)."""
    assert AXE.exists(), f"{AXE} is missing: run scripts/install dev"
    if not page.evaluate("typeof axe === 'object'"):
        page.evaluate(AXE.read_text() + ";0")
    found: list[dict[str, Any]] = page.evaluate(
        "axe.run(document, {resultTypes: ['violations']}).then((r) => r.violations)"
    )
    return [
        f"{one['id']} ({one['impact']}): {node['target']}: {node['failureSummary']}"
        for one in found
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"]
    ]
