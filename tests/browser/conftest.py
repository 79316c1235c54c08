"""One browser and one proxy for a module, and pages that are watched for whatever they must not do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.browser.lifelike import seed
from tests.browser.looking import Watch, open_browser
from tests.support.processes import ProxyProcess, proxy_process
from tests.support.sim import Sim, sim_process

ADMIN_KEY = "admin-" + "k" * 20
ADMIN = {"x-api-key": ADMIN_KEY}
Opened = Callable[..., Page]

expect.set_options(timeout=15_000)  # as long as actions may take: 5 s pass on a machine that does much else


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    with open_browser() as browser:
        yield browser


@pytest.fixture(scope="package")
def sim() -> Iterator[Sim]:
    with sim_process() as sim:
        yield sim


@pytest.fixture(scope="package")
def proxy(sim: Sim, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProxyProcess]:
    env = {"APIKEYROUTER_ADMIN_KEY": ADMIN_KEY, "APIKEYROUTER_REQUIRE_AUTH": "true"}
    with proxy_process(sim, tmp_path_factory.mktemp("proxy"), env=env) as proxy:
        yield proxy


@pytest.fixture(scope="package")
def seeded(proxy: ProxyProcess, sim: Sim) -> dict[str, Any]:
    return seed(proxy, sim, ADMIN)


def signed_in(browser: Browser, proxy: ProxyProcess, key: str = ADMIN_KEY, **options: Any) -> BrowserContext:
    """A browser profile with a session. `options`: of the context, such as `viewport`."""
    status, _, headers = proxy.ask("POST", "/api/v1/session", {"key": key})
    assert status == 200
    name, _, value = headers["set-cookie"].partition(";")[0].partition("=")
    context = browser.new_context(base_url=proxy.origin, **options)
    context.set_default_timeout(15_000)
    context.add_cookies([{"name": name, "value": value, "url": proxy.origin}])
    return context


@pytest.fixture
def watch(proxy: ProxyProcess) -> Watch:
    return Watch(proxy.origin)


@pytest.fixture
def page(browser: Browser, proxy: ProxyProcess, watch: Watch) -> Iterator[Page]:
    """A signed-in page. What it did wrong is the test's failure."""
    context = signed_in(browser, proxy)
    page = context.new_page()
    watch.over(page)
    try:
        yield page
        watch.expect_nothing()
    finally:
        context.close()
