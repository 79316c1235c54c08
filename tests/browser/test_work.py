"""What people do with the dashboard, done in a real browser: watch, find out why, look after keys."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import ADMIN, signed_in
from tests.browser.lifelike import chat
from tests.browser.looking import Watch
from tests.support.processes import ProxyProcess, free_port, proxy_process
from tests.support.sim import Sim

pytestmark = pytest.mark.xdist_group("browser")

HOSTILE = (
    "<script>document.title='owned'</script>",
    "<img src=x onerror=\"document.title='owned'\">",
    "'\"><svg onload=document.title='owned'>",
    "javascript:document.title='owned'",
    "{{constructor.constructor('document.title=1')()}}",
    "\u202egnp.exe",
)


def keys_of(proxy: ProxyProcess) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = proxy.get("/api/v1/keys", ADMIN)[1]["data"]
    return found


def test_a_request_that_is_sent_elsewhere_appears_by_itself(
    page: Page, proxy: ProxyProcess, seeded: dict[str, Any]
) -> None:
    page.goto("/dashboard/decisions")
    expect(page.get_by_text("Live", exact=True)).to_be_visible()
    expect(page.get_by_role("button", name="Refresh")).to_be_visible()
    chat(proxy, seeded["client_key"], "gpt-4o")
    show = page.get_by_role("button", name="Show 1 new request")
    expect(show).to_be_visible(timeout=5_000)
    show.click()
    expect(page.get_by_role("table").locator("tbody tr").first).to_contain_text("gpt-4o")
    page.goto("/dashboard")
    expect(page.get_by_text("Live", exact=True)).to_be_visible()
    chat(proxy, seeded["client_key"])
    asked = page.locator(".stat", has_text="Requests, last minute").locator("dd").first
    expect(asked).not_to_have_text("0", timeout=5_000)


def test_an_opened_decision_says_why_with_candidates_and_terms(page: Page, seeded: dict[str, Any]) -> None:
    page.goto("/dashboard/decisions")
    page.get_by_role("table").locator("tbody tr", has_text="gpt-4o").first.click()
    expect(page.get_by_role("heading", name="Why")).to_be_visible()
    expect(page.locator(".lead")).not_to_be_empty()
    expect(page.get_by_role("heading", name=re.compile("Candidates: [0-9]+ could serve"))).to_be_visible()
    expect(page.get_by_text("chosen", exact=True)).to_be_visible()
    expect(page.locator(".attempts li")).not_to_have_count(0)


def test_a_request_that_failed_says_who_refused_it(page: Page, seeded: dict[str, Any]) -> None:
    page.goto("/dashboard/decisions?outcome=failed")
    page.get_by_role("table").locator("tbody tr").first.click()
    expect(page.get_by_role("heading", name="Why")).to_be_visible()
    expect(page.get_by_text("no-such-model").first).to_be_visible()


def test_a_key_is_added_tried_disabled_enabled_rotated_and_revoked(page: Page, proxy: ProxyProcess, sim: Sim) -> None:
    first, second = "sk-" + "first" * 5, "sk-" + "second" * 5
    sim.add_account("late", first, second)
    page.goto("/dashboard/keys")
    page.get_by_role("button", name="Add a key").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Key", exact=True).fill(first)
    dialog.get_by_label("Label").fill("spare")
    dialog.get_by_role("button", name="Add").click()
    expect(page.get_by_role("heading", name="spare")).to_be_visible()
    page.get_by_role("button", name="Try").click()
    expect(page.get_by_role("status").filter(has_text="spare works")).to_be_visible()
    page.get_by_role("button", name="Disable").click()
    page.get_by_role("dialog").get_by_label("Reason").fill("holidays")
    page.get_by_role("dialog").get_by_role("button", name="Disable").click()
    expect(page.locator("dl.facts").first).to_contain_text("disabled")
    page.get_by_role("button", name="Enable").click()
    expect(page.locator("dl.facts").first).to_contain_text("available")
    page.get_by_role("button", name="Rotate").click()
    page.get_by_role("dialog").get_by_label("New key").fill(second)
    page.get_by_role("dialog").get_by_role("button", name="Replace").click()
    expect(page.get_by_text("version 2")).to_be_visible()
    page.get_by_role("button", name="Revoke").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Type spare to confirm").fill("spar")
    dialog.get_by_role("button", name="Revoke").click()
    expect(dialog.get_by_role("alert")).to_contain_text("Type spare")
    dialog.get_by_label("Type spare to confirm").fill("spare")
    dialog.get_by_role("button", name="Revoke").click()
    expect(page.get_by_role("table", name="Keys")).to_be_visible()
    assert [key["state"] for key in keys_of(proxy) if key["label"] == "spare"] in ([], ["retired"])
    assert first not in page.content()
    assert second not in page.content()


def test_what_is_edited_elsewhere_is_shown_without_a_reload(page: Page, proxy: ProxyProcess, sim: Sim) -> None:
    page.goto("/dashboard/keys")
    expect(page.get_by_text("Live", exact=True)).to_be_visible()
    material = "sk-" + "other" * 5
    sim.add_account("other", material)
    body = {"provider_id": "openai", "key_material": material, "label": "by-cli"}
    assert proxy.post("/api/v1/keys", body, ADMIN)[0] == 201
    expect(page.get_by_role("table").get_by_text("by-cli")).to_be_visible(timeout=5_000)


def test_a_refused_input_says_why_and_keeps_what_was_typed(page: Page, watch: Watch) -> None:
    watch.refusals = (400, 422)
    page.goto("/dashboard/keys")
    page.get_by_role("button", name="Add a key").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Key", exact=True).fill("sk-x")
    dialog.get_by_label("Label").fill("has spaces\tand more" * 20)
    dialog.get_by_role("button", name="Add").click()
    expect(dialog.get_by_role("alert")).not_to_be_empty()
    expect(dialog.get_by_label("Key", exact=True)).to_have_value("sk-x")


def test_hostile_names_stay_text_wherever_they_are_shown(
    page: Page, watch: Watch, proxy: ProxyProcess, sim: Sim, seeded: dict[str, Any]
) -> None:
    for number, text in enumerate(HOSTILE):
        chat(proxy, seeded["client_key"], text)
        proxy.post("/api/v1/virtual-keys", {"name": text, "team": text}, ADMIN)
        proxy.post(
            "/api/v1/budgets",
            {"scope": "per_tag", "scope_id": f"x={text}", "limit": "1", "period": "daily", "name": text},
            ADMIN,
        )
        proxy.ask("PUT", f"/api/v1/deployments/hostile{number}", {"targets": [f"openai/{text}"]}, ADMIN)
    victim = keys_of(proxy)[0]
    proxy.ask("PATCH", f"/api/v1/keys/{victim['id']}", {"metadata": {"note": HOSTILE[1]}}, ADMIN)
    sim.fault(None, "client_error", message=HOSTILE[1], count=1)
    chat(proxy, seeded["client_key"])
    sim.clear_faults()
    newest = proxy.get("/api/v1/requests?limit=2", ADMIN)[1]["data"]
    for path in ("", "keys", f"keys/{victim['id']}", "decisions", f"decisions/{newest[0]['id']}",
                 f"decisions/{newest[1]['id']}", "budgets", "spend", "models", "clients", "audit"):  # fmt: skip
        page.goto(f"/dashboard/{path}".rstrip("/"))
        expect(page.locator(".loading")).to_have_count(0)
        assert page.title().endswith("ApiKeyRouter"), path
        assert page.locator("main script, main svg[onload], main img[onerror]").count() == 0, path
    watch.expect_nothing()


def test_a_page_outlives_a_restart_of_the_proxy(browser: Browser, sim: Sim, tmp_path: Path) -> None:
    port = free_port()
    with proxy_process(sim, tmp_path, port=port) as before:
        context = browser.new_context(base_url=before.origin)
        page = context.new_page()
        page.goto("/dashboard/keys")
        expect(page.get_by_text("Live", exact=True)).to_be_visible()
    expect(page.get_by_text("Reconnecting")).to_be_visible(timeout=10_000)
    with proxy_process(sim, tmp_path, port=port) as after:
        assert after.port == port
        expect(page.get_by_text("Live", exact=True)).to_be_visible(timeout=20_000)
        expect(page.get_by_role("table")).to_be_visible()
        expect(page.get_by_role("alert")).to_have_count(0, timeout=15_000)
        context.close()


def test_two_browsers_of_two_people_see_the_same(
    browser: Browser, page: Page, proxy: ProxyProcess, seeded: dict[str, Any]
) -> None:
    context = signed_in(browser, proxy)
    other = context.new_page()
    for one in (page, other):
        one.goto("/dashboard")
        expect(one.get_by_text("Live", exact=True)).to_be_visible()
    chat(proxy, seeded["client_key"])
    for one in (page, other):
        asked = one.locator(".stat", has_text="Requests, last minute").locator("dd").first
        expect(asked).not_to_have_text("0", timeout=5_000)
    context.close()
