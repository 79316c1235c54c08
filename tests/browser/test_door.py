"""Signing in and out, and using the frame by keyboard alone, in a real browser."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import ADMIN, ADMIN_KEY
from tests.browser.looking import Watch, axe_findings, sign_in
from tests.support.processes import ProxyProcess

pytestmark = pytest.mark.xdist_group("browser")


@pytest.fixture
def stranger(browser: Browser, proxy: ProxyProcess, watch: Watch) -> Iterator[Page]:
    """A page of a browser that was never here."""
    context = browser.new_context(base_url=proxy.origin)
    page = context.new_page()
    watch.over(page)
    try:
        yield page
    finally:
        context.close()


def focused(page: Page) -> str:
    """What has the focus, by its words."""
    told: str = page.evaluate(
        "(({ tagName, ariaLabel, innerText, id }) => `${tagName.toLowerCase()} ${ariaLabel || innerText || id}`)"
        "(document.activeElement)"
    )
    return told.strip()


def test_the_right_key_opens_the_page_that_was_asked_for_and_a_wrong_one_says_so(stranger: Page) -> None:
    page = stranger
    page.goto("/dashboard/keys")
    expect(page).to_have_title("Sign in · ApiKeyRouter")
    assert not axe_findings(page)
    assert focused(page).startswith("input"), "the field is not focused"
    page.keyboard.type("wrong-" + "k" * 20)
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("key")
    sign_in(page, ADMIN_KEY)
    expect(page.get_by_role("heading", level=1)).to_have_text("Keys")
    page.reload()
    expect(page.get_by_role("heading", level=1)).to_have_text("Keys")
    assert ADMIN_KEY not in page.content()
    assert page.evaluate("JSON.stringify([localStorage, sessionStorage, document.cookie])").find(ADMIN_KEY) < 0


def test_signing_out_shows_nothing_any_more(page: Page, watch: Watch) -> None:
    watch.refusals = (401,)  # a question that was under way
    page.goto("/dashboard/keys")
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_label("Admin key")).to_be_visible()
    page.goto("/dashboard/decisions")
    expect(page.get_by_label("Admin key")).to_be_visible()


def test_revoking_the_key_ends_what_was_begun_with_it_while_the_page_is_open(
    stranger: Page, proxy: ProxyProcess
) -> None:
    _, made = proxy.post("/api/v1/virtual-keys", {"name": "boss", "role": "admin"}, ADMIN)
    page = stranger
    page.goto("/dashboard/keys")
    sign_in(page, made["key"])
    expect(page.get_by_role("heading", level=1)).to_have_text("Keys")
    proxy.ask("DELETE", f"/api/v1/virtual-keys/{made['id']}", headers=ADMIN)
    expect(page.get_by_label("Admin key")).to_be_visible(timeout=20_000)


def test_the_first_tab_leads_past_the_navigation_and_the_next_ones_through_it(page: Page, seeded: Any) -> None:
    page.goto("/dashboard/keys")
    expect(page.get_by_role("table")).to_be_visible()
    page.keyboard.press("Tab")
    assert focused(page) == "a Skip to the content"
    page.keyboard.press("Enter")
    assert focused(page).startswith("main")
    page.goto("/dashboard/keys")
    expect(page.get_by_role("table")).to_be_visible()
    order = []
    for _ in range(8):
        page.keyboard.press("Tab")
        order.append(focused(page))
    assert order[0] == "a Skip to the content"
    assert order[1] == "a ApiKeyRouter"
    assert re.match("button Auto theme", order[2])
    assert order[3] == "button Sign out"
    assert order[4:7] == ["a Overview", "a Keys", "a Budgets"]
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("Budgets")


def test_a_dialog_keeps_the_focus_and_gives_it_back(page: Page, seeded: Any) -> None:
    page.goto("/dashboard/keys")
    opener = page.get_by_role("button", name="Add a key")
    opener.focus()
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog", name="Add a key")
    expect(dialog).to_be_visible()
    assert not axe_findings(page)
    inside = "document.querySelector('dialog').contains(document.activeElement)"
    for _ in range(12):
        page.keyboard.press("Tab")
        assert page.evaluate(inside) or page.evaluate("document.activeElement === document.body")
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    expect(opener).to_be_focused()


def test_a_row_opens_by_keyboard_and_back_leads_back(page: Page, seeded: Any) -> None:
    page.goto("/dashboard/decisions")
    row = page.get_by_role("table").locator("tbody tr").first
    row.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Why")).to_be_visible()
    page.go_back()
    expect(page.get_by_role("button", name="Refresh")).to_be_visible()


def test_the_theme_is_chosen_and_kept(page: Page) -> None:
    page.emulate_media(color_scheme="light")
    page.goto("/dashboard")
    theme = page.get_by_role("button", name="theme")
    ground = "getComputedStyle(document.documentElement).backgroundColor"
    light = page.evaluate(ground)
    theme.click()
    theme.click()
    expect(theme).to_have_text("Dark")
    dark = page.evaluate(ground)
    assert dark != light
    page.reload()
    expect(theme).to_have_text("Dark")
    assert page.evaluate(ground) == dark
