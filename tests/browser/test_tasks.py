"""Tasks as somebody new would try them, each done with the dashboard alone in a real browser, and what it then is."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import ADMIN
from tests.browser.lifelike import chat
from tests.browser.looking import axe_findings
from tests.support.command import run_cli
from tests.support.processes import ProxyProcess
from tests.support.sim import Sim

pytestmark = pytest.mark.xdist_group("browser")


def menu(page: Page, name: str) -> None:
    page.get_by_role("navigation", name="Pages").get_by_role("link", name=name, exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_have_text(name)


def test_cap_spend_at_five_dollars_a_day(page: Page, proxy: ProxyProcess) -> None:
    page.goto("/dashboard")
    menu(page, "Budgets")
    page.get_by_role("button", name="Add a budget").first.click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Limit, US dollars").fill("5")
    dialog.get_by_label("For each").select_option("daily")
    dialog.get_by_label("Name").fill("Five a day")
    assert not axe_findings(page)
    dialog.get_by_role("button", name="Add", exact=True).click()
    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(page.get_by_text("Five a day").first).to_be_visible()
    (made,) = [one for one in proxy.get("/api/v1/budgets", ADMIN)[1]["data"] if one["name"] == "Five a day"]
    assert (float(made["limit_amount"]), made["period"], made["enforcement_mode"]) == (5.0, "daily", "hard")
    proxy.ask("DELETE", f"/api/v1/budgets/{made['id']}", headers=ADMIN)


def test_find_out_why_a_key_was_chosen(page: Page, proxy: ProxyProcess, seeded: dict[str, Any]) -> None:
    answer = chat(proxy, seeded["client_key"], "gpt-4o")
    page.goto("/dashboard")
    menu(page, "Decisions")
    page.get_by_role("table").locator("tbody tr", has_text="gpt-4o").first.click()
    page.wait_for_url(f"**/decisions/{answer[2]['x-akr-decision']}")
    expect(page.locator(".lead")).to_contain_text(re.compile("Selected openai-[0-9] because"))
    expect(page.get_by_text("What would change it")).to_be_visible()
    chosen = page.get_by_role("row").filter(has_text="chosen")
    expect(chosen).to_contain_text(answer[2]["x-akr-key"])


def test_see_when_a_key_runs_dry(page: Page, proxy: ProxyProcess, sim: Sim, seeded: dict[str, Any]) -> None:
    material = "sk-" + "small" * 5
    sim.add_account("small", material, limits={"rpm": 30})
    body = {"provider_id": "openai", "key_material": material, "label": "small"}
    key = proxy.post("/api/v1/keys", body, ADMIN)[1]
    for _ in range(6):
        client = {"authorization": f"Bearer {seeded['client_key']}", "x-akr-keys": "small"}
        hello = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 5}
        assert proxy.ask("POST", "/v1/chat/completions", hello, client)[0] == 200
    page.goto("/dashboard/keys")
    page.get_by_role("table").locator("tbody tr", has_text="small").first.click()
    expect(page.get_by_role("heading", name=re.compile("^Quota: "))).to_be_visible()
    limits = page.get_by_role("table", name="Limits of the quota pool")
    told = limits.locator("tbody tr", has_text="requests per minute").filter(has_text="of 30")
    expect(told).to_have_count(1)
    expect(told).to_contain_text(re.compile("runs dry|lasts"))
    expect(told).to_contain_text("told by replies")
    expect(page.locator("figure.chart[aria-label*='of 30 left']")).to_be_visible()
    proxy.ask("DELETE", f"/api/v1/keys/{key['id']}", headers=ADMIN)


def test_give_a_client_a_key_of_its_own_and_use_it(page: Page, proxy: ProxyProcess) -> None:
    page.goto("/dashboard")
    menu(page, "Clients")
    page.get_by_role("button", name="Add a client").first.click()
    page.get_by_role("dialog").get_by_label("Name").fill("new-app")
    page.get_by_role("dialog").get_by_label("Team").fill("labs")
    page.get_by_role("dialog").get_by_role("button", name="Add", exact=True).click()
    shown = page.locator("#issued-key")
    expect(shown).to_be_visible()
    assert not axe_findings(page)
    key = shown.inner_text()
    assert chat(proxy, key)[0] == 200
    page.get_by_role("dialog").get_by_role("button", name=re.compile("Close|Done")).first.click()
    expect(page.get_by_role("heading", name="new-app")).to_be_visible()
    page.reload()
    expect(page.get_by_role("heading", name="new-app")).to_be_visible()
    assert key not in page.content()


def test_try_a_request_and_see_where_it_went(page: Page, sim: Sim, seeded: dict[str, Any]) -> None:
    page.goto("/dashboard")
    menu(page, "Playground")
    page.get_by_label("Message 1", exact=True).fill("Which key are you?")
    page.get_by_role("button", name="Send", exact=True).click()
    expect(page.get_by_role("heading", name="What the router did")).to_be_visible(timeout=10_000)
    expect(page.locator("#playground-did")).to_contain_text(re.compile("openai-[0-9]"))
    assert sim.requests(last=1)[0]["json"]["messages"][-1]["content"] == "Which key are you?"
    page.get_by_role("button", name="Dry run").click()
    expect(page.get_by_text("would serve").first).to_be_visible()
    page.get_by_role("link", name="Open the decision").click()
    expect(page.get_by_role("heading", name="Why")).to_be_visible()


def test_try_a_configuration_before_it_counts(page: Page) -> None:
    page.goto("/dashboard/config/file")
    text = page.get_by_label("Text", exact=True)
    text.fill("providers:\n  openai: {}\nbudgets:\n  daily: {limit: 5, perod: daily}\n")
    faults = page.locator("#config-faults li").filter(has_text="perod")
    expect(faults.first).to_contain_text("Line 4")
    faults.first.get_by_role("button").click()
    expect(text).to_be_focused()
    text.fill("budgets:\n  daily: {limit: 5, period: daily}\n")
    expect(page.get_by_role("status").filter(has_text="usable")).to_be_visible()
    expect(page.get_by_text("would differ from what runs").first).to_be_visible()


LITELLM = """model_list:
  - model_name: gpt-4o
    litellm_params: {{model: openai/gpt-4o, api_key: {secret}}}
  - model_name: gpt-4o
    litellm_params: {{model: openai/gpt-4o, api_key: os.environ/SECOND_KEY}}
litellm_settings: {{max_budget: 5, budget_duration: 1d, telemetry: false}}
general_settings: {{store_prompts_in_spend_logs: true}}
"""


def test_move_from_litellm(page: Page, tmp_path: Path) -> None:
    secret = "sk-" + "moved" * 6
    page.goto("/dashboard")
    menu(page, "Configuration")
    page.get_by_role("link", name="Move here").click()
    page.get_by_label("Its text").fill(LITELLM.format(secret=secret))
    page.get_by_role("button", name="Translate").click()
    text = page.locator("#import-text")
    expect(text).to_contain_text("${SECOND_KEY}")
    expect(text).to_contain_text("deployments:")
    expect(text).to_contain_text("period: daily")
    expect(page.locator("#import-unmapped")).to_contain_text("store_prompts_in_spend_logs")
    expect(page.locator("#import-next")).to_contain_text("OPENAI_API_KEY_1")
    assert secret not in page.locator(".result").inner_text()
    assert not axe_findings(page)
    with page.expect_download() as loading:
        page.get_by_role("link", name="Download").click()
    path = tmp_path / loading.value.suggested_filename
    loading.value.save_as(path)
    assert path.name == "apikeyrouter.yaml"
    environ = {name: f"sk-{number}" + "z" * 20 for number, name in enumerate(("OPENAI_API_KEY_1", "SECOND_KEY"))}
    run_cli("config", "check", str(path), folder=tmp_path, env=environ)


def test_move_from_a_file_that_is_broken_or_chosen(page: Page, tmp_path: Path) -> None:
    page.goto("/dashboard/config/import")
    page.get_by_label("Its text").fill("model_list:\n  - model_name: a\n   litellm_params: {}\n")
    page.get_by_role("button", name="Translate").click()
    expect(page.locator("#import-faults")).to_contain_text("Line 3, column 4")
    chosen = tmp_path / "proxy.env"
    chosen.write_text("GEMINI_API_KEY_1=" + "g" * 30 + "\nENABLE_REQUEST_LOGGING=true\n")
    page.locator("input[type=file]").set_input_files(chosen)
    page.get_by_role("button", name="Translate").click()
    expect(page.locator("#import-text")).to_contain_text("provider: gemini")
    expect(page.locator("#import-unmapped")).to_contain_text("ENABLE_REQUEST_LOGGING")


def test_change_what_a_client_may_do(page: Page, proxy: ProxyProcess) -> None:
    made = proxy.post("/api/v1/virtual-keys", {"name": "growing", "models": ["gpt-4o"], "team": "labs"}, ADMIN)[1]
    page.goto(f"/dashboard/clients/{made['id']}")
    page.get_by_role("button", name="Change", exact=True).click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Models").fill("gpt-4o*, gpt-4.1*")
    dialog.get_by_label("Team").fill("sales")
    dialog.get_by_label("Requests a minute").fill("30")
    dialog.get_by_label("Expires").select_option("7")
    assert not axe_findings(page)
    dialog.get_by_role("button", name="Save").click()
    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(page.locator("dl.facts").first).to_contain_text("gpt-4o*, gpt-4.1*")
    told = proxy.get(f"/api/v1/virtual-keys/{made['id']}", ADMIN)[1]
    assert (told["models"], told["team"], told["rpm"]) == (["gpt-4o*", "gpt-4.1*"], "sales", 30)
    assert told["expires_at"]
    assert chat(proxy, made["key"], "gpt-4.1")[0] == 200
    page.get_by_role("button", name="Change", exact=True).click()
    page.get_by_role("dialog").get_by_label("Models").fill("")
    page.get_by_role("dialog").get_by_label("Expires").select_option("")
    page.get_by_role("dialog").get_by_role("button", name="Save").click()
    expect(page.get_by_text("never expires")).to_be_visible()
    (event,) = proxy.get(f"/api/v1/events?kind=admin.virtual_key.changed&entity_id={made['id']}&limit=1", ADMIN)[1][
        "data"
    ]
    assert event["document"]["fields"] == ["expires_at", "models"], "only what was changed is sent"


def test_cap_what_a_client_spends(page: Page, proxy: ProxyProcess) -> None:
    made = proxy.post("/api/v1/virtual-keys", {"name": "capped"}, ADMIN)[1]
    page.goto(f"/dashboard/clients/{made['id']}")
    page.get_by_role("button", name="Cap its spend").click()
    page.get_by_role("dialog").get_by_label("Limit, US dollars").fill("2.50")
    page.get_by_role("dialog").get_by_role("button", name="Add", exact=True).click()
    expect(page.get_by_text("of $2.50")).to_be_visible()
    (budget,) = [one for one in proxy.get("/api/v1/budgets", ADMIN)[1]["data"] if one["scope_id"] == made["id"]]
    assert (budget["scope"], budget["period"]) == ("per_virtual_key", "monthly")
    proxy.ask("DELETE", f"/api/v1/budgets/{budget['id']}", headers=ADMIN)


def test_all_faults_of_a_broken_configuration_are_told_with_their_places(page: Page) -> None:
    page.goto("/dashboard/config/file")
    page.get_by_label("Text", exact=True).fill(
        "providers:\n  openai: {}\nserver:\n  port: many\nkeys:\n  a: {provider: nobody, secret: x}\n"
        "budgets:\n  daily: {limit: -5}\n  other: {limt: 1}\n  third: {limit: 1, period: fortnight}\n"
    )
    faults = page.locator("#config-faults li")
    expect(faults.filter(has_text="port")).to_contain_text("Line 4, column 9")
    for name, line in (("limit", 8), ("limt", 9), ("period", 10), ("nobody", 6)):
        expect(faults.filter(has_text=name).filter(has_text=f"Line {line}").first).to_be_visible()
    assert not axe_findings(page)


def test_see_who_changed_what(page: Page, proxy: ProxyProcess) -> None:
    page.goto("/dashboard/audit")
    expect(page.get_by_role("table")).to_be_visible()
    made = proxy.post("/api/v1/virtual-keys", {"name": "seen by the log"}, ADMIN)[1]
    newer = page.get_by_role("button", name=re.compile("Show .* new event"))
    newer.click(timeout=15_000)
    row = page.get_by_role("table").locator("tbody tr", has_text="seen by the log").first
    expect(row).to_be_visible()
    row.press("Enter")
    expect(page.get_by_role("dialog")).to_contain_text(made["id"])
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)


def test_see_what_models_cost_and_how_fast_they_are(page: Page, seeded: dict[str, Any]) -> None:
    page.goto("/dashboard")
    menu(page, "Models and providers")
    row = page.get_by_role("table").locator("tbody tr", has_text="gpt-4o-mini").first
    expect(row).to_contain_text("$")
    menu(page, "Spend")
    expect(page.get_by_role("table").get_by_text("gpt-4o-mini").first).to_be_visible()
