"""Every page of the dashboard, opened: without a fault, without a foreign request, readable, accessible, on a phone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect
from playwright.sync_api import TimeoutError as PlaywrightTimeoutError

from tests.browser.conftest import signed_in
from tests.browser.looking import PAGES, Watch, axe_findings
from tests.support.processes import ProxyProcess

pytestmark = pytest.mark.xdist_group("browser")

DEEPER = ("keys/{key}", "decisions/{decision}", "budgets/{budget}", "clients/{client}", "nowhere")
PHONE = {"width": 390, "height": 844}
SETTLED_MS = 250
TOO_WIDE = """() => {
  const room = document.documentElement.clientWidth;
  const out = document.documentElement.scrollWidth > room || document.body.scrollWidth > room;
  return out ? [...document.querySelectorAll("main *")].filter((one) => one.getBoundingClientRect().right > room + 1
    && !one.closest(".table, pre")).slice(0, 5).map((one) => one.outerHTML.slice(0, 120)) : null;
}"""


@pytest.fixture(scope="module")
def profile(browser: Browser, proxy: ProxyProcess) -> Iterator[BrowserContext]:
    """One browser profile, so that files are loaded once."""
    context = signed_in(browser, proxy, viewport={"width": 1280, "height": 800})
    yield context
    context.close()


@pytest.fixture(scope="module", params=[page or "overview" for page in PAGES] + list(DEEPER))
def opened(
    request: pytest.FixtureRequest, profile: BrowserContext, proxy: ProxyProcess, seeded: dict[str, Any]
) -> Iterator[tuple[Page, Watch, str]]:
    """A page, loaded, and what it did since."""
    name = "" if request.param == "overview" else request.param.format(**seeded)
    if name.partition("/")[0] not in [*PAGES, "nowhere"]:
        pytest.fail(f"{name} is no page any more")
    page = profile.new_page()
    watch = Watch(proxy.origin).over(page)
    page.goto("/dashboard/" * bool(name) + name or "/dashboard")
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    expect(page.locator(".loading")).to_have_count(0)
    page.wait_for_timeout(SETTLED_MS)  # charts draw in the next frames
    yield page, watch, name
    page.close()


def test_it_opens_without_a_fault_and_asks_nobody_but_the_proxy(opened: tuple[Page, Watch, str]) -> None:
    page, watch, name = opened
    watch.expect_nothing()
    assert page.title().endswith("ApiKeyRouter")
    if name == "nowhere":
        expect(page.get_by_role("heading", level=1)).to_have_text("Not found")
        return
    expect(page.get_by_role("alert")).to_have_count(0)
    expect(page.locator("nav a[aria-current=page]")).to_have_count(1)
    assert len(page.locator("main").inner_text()) > 60, "the page is empty"


def test_an_accessibility_scan_finds_nothing_serious_in_light_and_dark(opened: tuple[Page, Watch, str]) -> None:
    page, watch, _ = opened
    found = []
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")  # type: ignore[arg-type] # two of its words
        page.wait_for_timeout(50)
        found += [f"{scheme}: {one}" for one in axe_findings(page)]
    assert not found, "\n".join(found)
    watch.expect_nothing()


def test_a_phone_shows_it_without_scrolling_sideways(opened: tuple[Page, Watch, str]) -> None:
    page, _, name = opened
    page.set_viewport_size(PHONE)  # type: ignore[arg-type] # a dictionary of these two
    with suppress(PlaywrightTimeoutError):  # charts follow the page's width a frame or more later
        page.wait_for_function(f"() => ({TOO_WIDE})() === null", timeout=5_000)
    wide = page.evaluate(TOO_WIDE)
    assert wide is None, f"{name} is wider than a phone: {wide}"
    menu = page.get_by_role("button", name="Menu")
    menu.click()
    expect(page.get_by_role("link", name="Overview", exact=True)).to_be_visible()
    menu.click()
    expect(page.get_by_role("link", name="Overview", exact=True)).to_be_hidden()
    page.set_viewport_size({"width": 1280, "height": 800})
