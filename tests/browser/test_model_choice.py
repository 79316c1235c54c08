"""The page of model choice and the choice in a decision, after traffic for `auto` of every kind and a few marks."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from tests.browser.conftest import ADMIN, ADMIN_KEY, signed_in
from tests.browser.lifelike import chat
from tests.browser.looking import Watch, axe_findings
from tests.support.processes import ProxyProcess, proxy_process
from tests.support.sim import Sim

pytestmark = pytest.mark.xdist_group("browser")

WEAK, STRONG = "openai/gpt-4o-mini", "openai/gpt-4.1"
GROUPS = [
    {
        "name": "default",
        "models": [{"model": WEAK, "role": "weak"}, {"model": STRONG, "role": "strong"}],
        "strong_share": 0.3,
    },
    {"name": "support", "models": [WEAK, STRONG], "strategy": "cascade", "target_quality": 0.9},
    {"name": "watched", "models": [WEAK, "openai/gpt-4o"], "reference": "openai/gpt-4o", "shadow": True},
]
PATH = "/dashboard/model-routing"
Ids = dict[str, str]


@pytest.fixture(scope="module")
def routed(sim: Sim, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProxyProcess]:
    env = {"APIKEYROUTER_ADMIN_KEY": ADMIN_KEY, "APIKEYROUTER_MODEL_GROUPS": json.dumps(GROUPS)}
    with proxy_process(sim, tmp_path_factory.mktemp("routed"), env=env) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def ids(routed: ProxyProcess) -> Ids:
    """Decisions by what was asked for."""
    found = {}
    for model in ("auto:cost", "auto:quality", "auto:cost", "auto:cost", "auto/support", "gpt-4o"):
        status, _, headers = chat(routed, ADMIN_KEY, model, max_tokens=100)
        assert status == 200
        found[model] = headers["x-akr-decision"]
        if model.startswith("auto:"):
            thumb = "up" if model == "auto:cost" else "down"
            mark = {"request_id": headers["x-request-id"], "thumb": thumb}
            assert routed.post("/api/v1/feedback", mark, ADMIN)[0] == 200
    found["escalated"] = chat(routed, ADMIN_KEY, "auto/support", max_tokens=20)[2]["x-akr-decision"]  # it is cut off
    return found


@pytest.fixture
def opened(browser: Browser, routed: ProxyProcess, ids: Ids) -> Iterator[Page]:
    """The page, signed in and watched."""
    context = signed_in(browser, routed, viewport={"width": 1400, "height": 900})
    page = context.new_page()
    watch = Watch(routed.origin).over(page)
    page.goto(PATH)
    expect(page.get_by_role("heading", name="auto", exact=True)).to_be_visible()
    try:
        yield page
        watch.expect_nothing()
    finally:
        context.close()


def group(page: Page, name: str) -> Any:
    return page.get_by_role("region", name=f"Group {name}", exact=True)


def test_before_any_request_for_auto_the_page_says_what_it_is_and_gives_the_request(
    page: Page, proxy: ProxyProcess, seeded: dict[str, Any]
) -> None:
    page.goto(PATH)
    expect(page.get_by_text("No request has left its model to the router yet")).to_be_visible()
    request = page.locator("pre.code").inner_text()
    assert f"{proxy.origin}/v1/chat/completions" in request
    assert json.loads(request.partition("-d '")[2].rstrip("'"))["model"] == "auto"
    page.get_by_role("button", name="Copy").click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    expect(page.get_by_role("table", name="Models of auto").locator("tbody tr")).to_have_count(2)


def test_a_group_tells_its_models_what_it_sent_where_and_what_it_saved(opened: Page) -> None:
    rows = opened.get_by_role("table", name="Models of auto", exact=True).locator("tbody tr")
    expect(rows.first).to_have_text(re.compile(f"{WEAK}.*weak.*\\$0.150, \\$0.600"))
    expect(rows.nth(1)).to_have_text(re.compile(f"{STRONG}.*strong.*\\$2.00, \\$8.00"))
    told = group(opened, "auto")
    expect(told).to_contain_text("25.0 % target 30 %")
    expect(told).to_contain_text(f"expected, against {STRONG}")
    expect(told).to_contain_text("75.0 % of 4 marks, no target")
    expect(told).to_contain_text("3 of 500 prompts weighed")


def test_a_cascade_tells_what_discarded_answers_cost_and_shadow_mode_what_it_would_save(opened: Page) -> None:
    expect(group(opened, "auto/support")).to_contain_text(
        re.compile(r"Discarded\$0\.0000\d+ for answers that nobody got")
    )
    expect(group(opened, "auto/support")).to_contain_text("no marks yet, target 90 %")
    watched = group(opened, "auto/watched")
    expect(watched.get_by_text("shadow mode")).to_be_visible()
    expect(watched).to_contain_text(re.compile(r"would have saved \$0\.000\d+ in 1 request that named openai/gpt-4o"))


@pytest.mark.parametrize(
    ("drift", "alerts", "words"),
    [
        (0.02, [], "prompts as before"),
        (0.19, [], "prompts are changing"),
        (0.31, ["drift"], "prompts have changed"),
        (0.19, ["drift"], "prompts have changed"),
    ],
)
def test_drift_is_told_in_words_beside_its_index_and_threshold(
    drift: float, alerts: list[str], words: str, opened: Page
) -> None:
    def changed(route: Route) -> None:
        told = route.fetch().json()
        for row in told["data"]:
            row |= {"drift": drift, "alerts": alerts, "prompts": row["prompts_from"]}
        route.fulfill(json=told)

    opened.route("**/api/v1/model-routing", changed)
    opened.reload()
    expect(group(opened, "auto")).to_contain_text(f"{words}{drift:.2f}, alert above 0.25")
    assert not axe_findings(opened)


def test_it_is_accessible_in_both_themes_and_fits_a_phone(opened: Page) -> None:
    for scheme in ("light", "dark"):
        opened.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        opened.wait_for_timeout(50)
        assert not axe_findings(opened), scheme
    opened.set_viewport_size({"width": 390, "height": 844})
    opened.wait_for_timeout(50)
    assert opened.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")


def test_a_choice_leads_to_its_decision_which_says_how_the_model_was_chosen(opened: Page, ids: Ids) -> None:
    opened.get_by_label("Group", exact=True).select_option("support")
    rows = opened.get_by_role("table", name="Newest choices").locator("tbody tr")
    expect(rows).to_have_count(2)
    rows.nth(1).get_by_role("link").click()
    opened.wait_for_url(f"**/decisions/{ids['auto/support']}")
    card = opened.get_by_role("region", name="Choice of the model")
    expect(card).to_contain_text(f"Chose {WEAK} (cascade)")
    weighed = card.get_by_role("table", name="Models that were weighed").locator("tbody tr")
    expect(weighed.filter(has_text="chosen")).to_contain_text(WEAK)
    expect(weighed.filter(has_text="reference")).to_contain_text(STRONG)
    answers = card.get_by_role("table", name="Answers of the cascade").locator("tbody tr")
    expect(answers.filter(has_text="accepted")).to_have_count(1)
    expect(answers.filter(has_text="compared")).to_have_count(2)
    for scheme in ("light", "dark"):
        opened.emulate_media(color_scheme=scheme)
        assert not axe_findings(opened), scheme
    opened.set_viewport_size({"width": 390, "height": 844})
    opened.wait_for_timeout(50)
    assert opened.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    answers.filter(has_text="compared").first.get_by_role("link").click()
    expect(card).to_contain_text("the caller got the answer of")
    opened.get_by_role("link", name="The decision whose answer was given").click()
    opened.wait_for_url(f"**/decisions/{ids['auto/support']}")


def test_an_answer_that_was_not_accepted_stands_before_the_one_that_was_given(opened: Page, ids: Ids) -> None:
    opened.goto(f"/dashboard/decisions/{ids['escalated']}")
    card = opened.get_by_role("region", name="Choice of the model")
    expect(card).to_contain_text(f"more than {STRONG}")
    answers = card.get_by_role("table", name="Answers of the cascade").locator("tbody tr")
    expect(answers).to_have_text([re.compile(f"{WEAK}.*not accepted.*it ended early"), re.compile(f"{STRONG}.*given")])


def test_a_decision_of_shadow_mode_says_what_would_have_been(opened: Page, ids: Ids) -> None:
    opened.goto(f"/dashboard/decisions/{ids['gpt-4o']}")
    card = opened.get_by_role("region", name="Choice of the model")
    expect(card.get_by_text("would be chosen")).to_be_visible()
    expect(card).to_contain_text(re.compile(r"Would have saved\$0\.000\d+ against gpt-4o"))
