"""The dashboard's door over HTTP: its document and files, and the sessions of browsers."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import apikeyrouter_proxy.dashboard
from apikeyrouter.domain.keys.secret import Secret
from apikeyrouter_proxy.dashboard.sessions import COOKIE
from tests.support.server import Answer, Served, run_proxy
from tests.support.sim import Sim

ADMIN_KEY = "admin-" + "k" * 20
STATIC = Path(apikeyrouter_proxy.dashboard.__file__).parent / "static"
KEYS, CHAT = "/api/v1/keys", "/dashboard/v1/chat/completions"
HELLO = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 5}


@pytest.fixture(scope="module")
def locked(sim_server: Sim) -> Iterator[Served]:
    with run_proxy(sim_server.base_url, sim_server.keys, admin_key=Secret(ADMIN_KEY), require_auth=True) as (served, _):
        yield served


def signed_in(served: Served, key: str = ADMIN_KEY) -> tuple[dict[str, str], str, Answer]:
    answer = served.post("/api/v1/session", {"key": key})
    assert answer.status == 200, answer.json
    return {"cookie": answer.headers["set-cookie"].partition(";")[0]}, answer.json["csrf"], answer


def test_the_document_is_open_and_may_load_nothing_from_elsewhere(locked: Served) -> None:
    for path in ("/dashboard", "/dashboard/keys", "/dashboard/decisions/dec_1"):
        page = locked.get(path)
        assert page.status == 200
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        policy = page.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert not re.search(rb"(?:src|href)=.https?:|<script>|style=|\son\w+=", page.body)


def test_its_files_are_kept_by_browsers_for_as_long_as_they_do_not_change(locked: Served) -> None:
    named = re.findall(rb'(?:src|href)="(/dashboard/static/[^"]+)"', locked.get("/dashboard").body)
    assert len(named) >= 4
    for path in named:
        file = locked.get(path.decode())
        assert file.status == 200
        assert "immutable" in file.headers["cache-control"]
    older = re.sub("static/[0-9a-f]+/", "static/000000000000/", named[-1].decode())
    assert locked.get(older).headers["cache-control"] == "no-store"


def test_the_document_names_the_modules_of_its_page_so_that_they_come_at_once(locked: Served) -> None:
    def named(path: str) -> set[str]:
        links = re.findall(rb'rel="modulepreload" href="/dashboard/static/[0-9a-f]+/([^"]+)"', locked.get(path).body)
        assert len(links) == len(set(links))
        return {link.decode() for link in links}

    keys, audit = named("/dashboard/keys/key_1"), named("/dashboard/audit")
    assert {"pages/keys.js", "pages/key.js", "components/table.js", "lib/quota.js", "vendor/preact-htm.js"} <= keys
    assert {"pages/audit.js", "lib/api.js"} <= audit
    assert "pages/keys.js" not in audit
    assert "pages/overview.js" in named("/dashboard")
    assert named("/dashboard/nowhere") == set()


def test_no_path_leads_out_of_the_folder(locked: Served) -> None:
    for path in (
        "x/../../sessions.py",
        "x/%2e%2e/%2e%2e/sessions.py",
        "x//etc/passwd",
        "x/index.html",
        "x",
        "",
        "x/vendor",
    ):
        assert locked.get(f"/dashboard/static/{path}").status in (400, 404), path
    assert locked.post("/dashboard/keys", {}).status in (401, 405)


def test_browsers_are_led_to_it_and_programs_are_told_where_things_are(locked: Served) -> None:
    assert locked.get("/", {"accept": "text/html,*/*"}).headers["location"] == "/dashboard"
    assert locked.get("/", {"accept": "*/*"}).json["dashboard"] == "/dashboard"


def test_the_libraries_are_the_ones_that_were_published() -> None:
    listed = json.loads((STATIC / "vendor" / "vendor.json").read_text())
    for row in listed:
        assert hashlib.sha256((STATIC / "vendor" / row["file"]).read_bytes()).hexdigest() == row["sha256"]
    held = {path.name for path in (STATIC / "vendor").iterdir() if path.suffix in (".js", ".css")}
    assert held == {row["file"] for row in listed}


def test_a_session_opens_the_management_api_and_its_word_is_needed_to_write(locked: Served) -> None:
    assert locked.get("/api/v1/session").json == {
        "signed_in": False, "open_mode": False, "name": None, "csrf": None, "ends_at": None,
    }  # fmt: skip
    cookie, csrf, answer = signed_in(locked)
    flags = answer.headers["set-cookie"]
    assert "HttpOnly" in flags
    assert "SameSite=Strict" in flags
    assert ADMIN_KEY not in flags + repr(answer.json)
    assert locked.get("/api/v1/session", cookie).json["csrf"] == csrf
    assert locked.get(KEYS, cookie).status == 200
    assert locked.get(KEYS).status == 401
    unsaid = locked.post("/api/v1/virtual-keys", {"name": "by page"}, cookie)
    assert (unsaid.status, unsaid.code) == (403, "csrf_token_missing")
    assert locked.post("/api/v1/virtual-keys", {"name": "by page"}, {**cookie, "x-akr-csrf": "guess"}).status == 403
    assert locked.post("/api/v1/virtual-keys", {"name": "by page"}, {**cookie, "x-akr-csrf": csrf}).status == 201


def test_a_wrong_key_or_a_clients_key_begins_no_session(locked: Served) -> None:
    wrong = locked.post("/api/v1/session", {"key": "akr_nobody"})
    assert (wrong.status, "set-cookie" in wrong.headers) == (401, False)
    client = locked.post("/api/v1/virtual-keys", {"name": "app"}, {"x-api-key": ADMIN_KEY}).json["key"]
    assert locked.post("/api/v1/session", {"key": client}).status == 403


def test_revoking_the_key_ends_its_sessions(locked: Served) -> None:
    admin = {"x-api-key": ADMIN_KEY}
    made = locked.post("/api/v1/virtual-keys", {"name": "boss", "role": "admin"}, admin).json
    cookie, _, _ = signed_in(locked, made["key"])
    assert locked.get(KEYS, cookie).status == 200
    locked.ask("DELETE", f"/api/v1/virtual-keys/{made['id']}", headers=admin)
    assert locked.get(KEYS, cookie).status == 401
    assert locked.get("/api/v1/session", cookie).json["signed_in"] is False


def test_signing_out_takes_the_cookie_away(locked: Served) -> None:
    cookie, csrf, _ = signed_in(locked)
    gone = locked.ask("DELETE", "/api/v1/session", headers={**cookie, "x-akr-csrf": csrf})
    assert gone.status == 204
    assert f"{COOKIE}=;" in gone.headers["set-cookie"]
    assert "Max-Age=0" in gone.headers["set-cookie"]


@pytest.mark.parametrize("value", ["", "x", "e30", "A" * 500, "A" * 5000, "%00", '"quoted"'])
def test_a_cookie_that_is_not_ours_is_nobody(locked: Served, value: str) -> None:
    assert locked.get(KEYS, {"cookie": f"{COOKIE}={value}"}).status == 401


def test_a_session_cookie_is_worth_nothing_on_the_token_path_itself(locked: Served) -> None:
    cookie, csrf, _ = signed_in(locked)
    assert locked.post("/v1/chat/completions", HELLO, {**cookie, "x-akr-csrf": csrf}).status == 401


def test_the_playground_serves_a_signed_in_browser(locked: Served) -> None:
    cookie, csrf, _ = signed_in(locked)
    assert locked.post(CHAT, HELLO).status == 401
    assert locked.post(CHAT, HELLO, cookie).code == "csrf_token_missing"
    served = locked.post(CHAT, HELLO, {**cookie, "x-akr-csrf": csrf})
    assert served.status == 200
    assert served.json["choices"][0]["message"]["content"]
    assert "x-akr-decision" in served.headers
    assert locked.post("/dashboard/v1/nothing", HELLO, {**cookie, "x-akr-csrf": csrf}).status == 404
