"""Pictures of every page for the documentation, taken of a proxy at work: `make screenshots`.

Main entry: `main`. Desktop in light and dark, and three phones beside each other. Law: every picture is looked at
before it is committed; nothing in it is real.
"""

from __future__ import annotations

import base64
import random
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from playwright.sync_api import Browser, Page, expect

from tests.browser.choosing import proxy_that_chose
from tests.browser.conftest import ADMIN, ADMIN_KEY, signed_in
from tests.browser.looking import ROOT, open_browser
from tests.support.processes import ProxyProcess, proxy_process
from tests.support.sim import Sim, sim_process

FOLDER = ROOT / "docs/images/dashboard"
BYTES_MAX = 120 * 1024
DESKTOP, PHONE = {"width": 1200, "height": 780}, {"width": 360, "height": 720}
SHORT = {"width": 1200, "height": 580}
WARM_S = 75.0

LIGHT = {"overview": "", "keys": "keys", "budgets": "budgets", "decision": "decisions/{decision}", "models": "models",
         "clients": "clients", "configuration": "config"}  # fmt: skip
DARK = {"decisions-dark": "decisions", "key-dark": "keys/{key}", "spend-dark": "spend", "playground-dark": "playground"}
PHONES = ("", "keys", "audit")

NAMES = ("team-a", "team-b", "search", "batch", "backup")
SIM = {
    "accounts": [
        {
            "name": name,
            "keys": [f"sim-{name}"],
            "limits": {"rpm": 60 * (number + 2), "tpm": 14_000 * (number + 1)},
            "pace": {"first_token_s": 0.12 + 0.07 * number, "token_s": 0.004 + 0.002 * number},
        }
        for number, name in enumerate(NAMES)
    ],
    "reply_tokens": [40, 160],
}
CLIENTS = (("Web shop", "shop"), ("Nightly reports", "finance"), ("Support desk", "care"), ("Search", "shop"))
MODELS = ("gpt-4o-mini", "gpt-4o-mini", "gpt-4o-mini", "gpt-4o", "gpt-4.1-nano", "gpt-4.1")
TEXTS = (
    "Summarise the minutes of Monday in five sentences.",
    "Which of these reviews are angry, and about what? Answer as a list.",
    "Translate this invoice into German, and keep the numbers as they are.",
)


def furnish(proxy: ProxyProcess) -> list[str]:
    """Keys with names, clients, budgets, a deployment; the clients' keys."""

    def made(method: str, path: str, body: Any) -> Any:
        status, told, _ = proxy.ask(method, "/api/v1" + path, body, ADMIN)
        assert status < 300, (path, told)
        return told

    for name in NAMES:
        made("POST", "/keys", {"provider_id": "openai", "key_material": f"sim-{name}", "label": name})
    clients = [made("POST", "/virtual-keys", {"name": name, "team": team})["key"] for name, team in CLIENTS]
    day = {"scope": "global", "limit": "5.00", "period": "daily", "name": "The whole house"}
    made("POST", "/budgets", day)
    for team, limit, mode in (("shop", "0.12", "soft"), ("finance", "0.5", "hard"), ("care", "0.04", "soft")):
        made("POST", "/budgets", {"scope": "per_team", "scope_id": team, "limit": limit, "period": "monthly",
                                  "enforcement_mode": mode, "name": f"Team {team}"})  # fmt: skip
    made(
        "PUT", "/deployments/fast", {"targets": ["openai/gpt-4o-mini", "openai/gpt-4.1-nano"], "fallbacks": ["gpt-4o"]}
    )
    return clients


@contextmanager
def traffic(proxy: ProxyProcess, clients: list[str]) -> Iterator[None]:
    """Requests of several clients, some of them hopeless, until the block ends."""
    over = threading.Event()

    def work(number: int) -> None:
        chance = random.Random(number)
        while not over.wait(chance.expovariate(1.6)):
            model = "gpt-5-unreleased" if chance.random() < 0.01 else chance.choice(MODELS)
            body = {
                "model": model,
                "messages": [{"role": "user", "content": chance.choice(TEXTS)}],
                "max_tokens": 200,
                "stream": number % 2 == 0,
            }
            headers = {"authorization": f"Bearer {clients[number % len(clients)]}"}
            if chance.random() < 0.3:
                headers["x-akr-objective"] = "balanced"
            proxy.ask("POST", "/v1/chat/completions", body, headers)

    threads = [threading.Thread(target=work, args=(number,), daemon=True) for number in range(8)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join(20)


def ready(page: Page, path: str) -> None:
    page.goto("/dashboard" + ("/" + path if path else ""))
    expect(page.locator(".loading")).to_have_count(0, timeout=15_000)
    page.wait_for_timeout(2500)


def keep(page: Page, name: str) -> str:
    """Writes one picture; what is wrong with it, "" for nothing."""
    path = FOLDER / f"{name}.png"
    page.screenshot(path=path)
    size = path.stat().st_size
    print(f"{path.relative_to(ROOT)}: {size / 1024:.0f} KiB", flush=True)
    return "" if size <= BYTES_MAX else f"{name} is larger than {BYTES_MAX // 1024} KiB"


def play(page: Page) -> None:
    """Sends the playground's request, where it can be sent."""
    send = page.get_by_role("button", name="Send")
    if send.count():
        page.set_viewport_size(SHORT)  # type: ignore[arg-type] # a dictionary of these two
        send.first.click()
        page.wait_for_timeout(3000)
        page.mouse.wheel(0, -2000)
        page.wait_for_timeout(500)


def side_by_side(browser: Browser, shots: list[bytes]) -> Page:
    """A page that shows pictures of phones in a row."""
    page = browser.new_page(viewport={"width": 3 * 360 + 4 * 16, "height": 752})
    rows = "".join(f'<img width="360" src="data:image/png;base64,{base64.b64encode(one).decode()}">' for one in shots)
    page.set_content(f'<body style="margin:16px;display:flex;gap:16px;background:#8a94a3">{rows}</body>')
    return page


def take(browser: Browser, proxy: ProxyProcess, ids: Mapping[str, str]) -> list[str]:
    """All of them."""
    faults = []
    for scheme, wanted in (("light", LIGHT), ("dark", DARK)):
        context = signed_in(browser, proxy, viewport=DESKTOP, color_scheme=scheme, timezone_id="UTC")
        page = context.new_page()
        for name, path in wanted.items():
            ready(page, path.format(**ids))
            if path == "":
                page.wait_for_timeout(60_000)  # charts begin when the page opens
            page.set_viewport_size(DESKTOP)  # type: ignore[arg-type] # a dictionary of these two
            if path == "playground":
                play(page)
            if path == "decisions":
                page.set_viewport_size(SHORT)  # type: ignore[arg-type] # a dictionary of these two
            if path.startswith("keys/"):
                page.mouse.wheel(0, 380)
                page.wait_for_timeout(25_000)
            faults.append(keep(page, name))
        context.close()
    context = signed_in(browser, proxy, viewport=PHONE, color_scheme="light", timezone_id="UTC")
    page, shots = context.new_page(), []
    for path in PHONES:
        ready(page, path)
        page.wait_for_timeout(8000 if path == "" else 0)
        shots.append(page.screenshot())
    context.close()
    faults.append(keep(side_by_side(browser, shots), "phone"))
    return [one for one in faults if one]


def take_model_choice(browser: Browser) -> list[str]:
    """The page Model choice, of a proxy of its own."""
    with TemporaryDirectory() as folder, proxy_that_chose(Path(folder)) as proxy:
        context = signed_in(browser, proxy, viewport=SHORT, color_scheme="dark", timezone_id="UTC")
        page = context.new_page()
        ready(page, "model-routing")
        fault = keep(page, "model-choice-dark")
        context.close()
    return [fault] if fault else []


def _ids(proxy: ProxyProcess) -> dict[str, str]:
    keys = proxy.get("/api/v1/keys", ADMIN)[1]["data"]
    rows = proxy.get("/api/v1/requests?outcome=ok", ADMIN)[1]["data"]
    weighed = [row for row in rows if row["objective"] == "balanced"]
    return {
        "key": next(key["id"] for key in keys if key["label"] == NAMES[0]),
        "decision": weighed[0]["id"],
    }


def main() -> int:
    """Exit status 1 when a picture is too large."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    env = {"APIKEYROUTER_ADMIN_KEY": ADMIN_KEY, "APIKEYROUTER_REQUIRE_AUTH": "true"}
    with TemporaryDirectory() as folder, sim_process(SIM) as sim, open_browser() as browser:
        env["OPENAI_BASE_URL"] = sim.base_url
        with proxy_process(None, Path(folder), env=env) as proxy:
            clients = furnish(proxy)
            with traffic(proxy, clients):
                _trouble(sim)
                threading.Event().wait(WARM_S)
                faults = take(browser, proxy, _ids(proxy))
        faults += take_model_choice(browser)
    print("\n".join(faults), file=sys.stderr)
    return 1 if faults else 0


def _trouble(sim: Sim) -> None:
    """A key that was revoked at the provider, and one that sometimes fails."""
    sim.fault("sim-backup", "revoked")
    sim.fault("sim-batch", "server_error", probability=0.1)


if __name__ == "__main__":
    sys.exit(main())
