"""From a store's URL to the store, and where a store lies by default."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from apikeyrouter.domain.errors import ConfigurationError
from apikeyrouter.infrastructure.state_store import default_store_path, open_store


@pytest.mark.parametrize("url", ["memory:", "memory://", " MEMORY: "])
def test_memory_is_a_url(url: str) -> None:
    store = open_store(url)
    assert (store.description, store.persistent) == ("memory", False)


def test_three_slashes_lead_from_here_and_four_from_the_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert open_store("sqlite:///sub/x.db").description == f"sqlite:///{tmp_path}/sub/x.db"
    assert open_store("sqlite:////var/lib/x.db").description == "sqlite:////var/lib/x.db"
    assert open_store("SQLite:////var/lib/a%20b.db").description == "sqlite:////var/lib/a%20b.db", "taken literally"
    assert open_store("sqlite:////var/lib/x.db").persistent
    assert list(tmp_path.iterdir()) == [], "naming a store creates nothing"


def test_a_tilde_is_the_home_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert open_store("sqlite:///~/x.db").description == f"sqlite:///{tmp_path}/x.db"


def test_a_description_is_a_url_that_opens_the_same_store(tmp_path: Path) -> None:
    description = open_store(f"sqlite:///{tmp_path}/x.db").description
    assert open_store(description).description == description


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("", "no scheme"),
        ("state.db", "no scheme"),
        ("/var/lib/state.db", "no scheme"),
        ("mysql://root@db/x", '"mysql" is not known'),
        ("memory:thing", "not known"),
        ("sqlite:x.db", "three slashes"),
        ("sqlite://x.db", "three slashes"),
        ("sqlite:///", "three slashes"),
        ("sqlite:////", "three slashes"),
        ("sqlite:///:memory:", '"memory:"'),
        ("sqlite:///x.db?mode=ro", "no options"),
        ("postgresql://u:pw-in-url@ss@db/x", '"@"'),
        ("postgresql://u:pw-in-url#x@db/x", '"#"'),
        ("postgresql://u:pw-in-url/x@db/x", "port"),
        ("postgresql://u:pw-in-url@db/x?schema=a%22b", "schema="),
        ("postgresql://u:pw-in-url@db/x?sslmode=pw-in-url", "sslmode="),
        ("postgresql://u:pw-in-url@db/x?search_path=a", "schema=NAME"),
        ("postgresql://u:pw-in-url@db/x?schema", "name=value"),
        ("redis://:pw-in-url@cache/prod", "number of a database"),
        ("rediss://:pw-in-url@cache/0?password=pw-in-url", "option that does not exist"),
    ],
)
def test_other_urls_are_refused_with_advice_and_without_their_passwords(url: str, told: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        open_store(url)
    assert told in str(caught.value)
    assert "pw-in-url" not in str(caught.value)


@pytest.mark.parametrize("url", ["mysql://x", "redis+sentinel://x", "x"])
def test_a_refusal_lists_what_is_supported(url: str) -> None:
    with pytest.raises(ConfigurationError, match=r'"memory:".*"sqlite:///relative'):
        open_store(url)


@pytest.mark.parametrize(
    ("platform", "environ", "path"),
    [
        ("linux", {"HOME": "/home/me"}, "/home/me/.local/share/apikeyrouter/state.sqlite"),
        ("linux", {"HOME": "/home/me", "XDG_DATA_HOME": "/data"}, "/data/apikeyrouter/state.sqlite"),
        (
            "linux",
            {"HOME": "/home/me", "XDG_DATA_HOME": "not/absolute"},
            "/home/me/.local/share/apikeyrouter/state.sqlite",
        ),
        ("linux", {"HOME": "/home/me", "XDG_DATA_HOME": ""}, "/home/me/.local/share/apikeyrouter/state.sqlite"),
        ("darwin", {"HOME": "/Users/me"}, "/Users/me/Library/Application Support/apikeyrouter/state.sqlite"),
        ("win32", {"HOME": "/u/me", "LOCALAPPDATA": "/u/me/Local"}, "/u/me/Local/apikeyrouter/state.sqlite"),
        ("win32", {"HOME": "/u/me"}, "/u/me/AppData/Local/apikeyrouter/state.sqlite"),
    ],
)
def test_by_default_the_store_lies_among_the_users_data(
    platform: str, environ: dict[str, str], path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    assert default_store_path(environ) == Path(path)


def test_a_memory_store_needs_no_database_library() -> None:
    program = (
        "import sys\n"
        "from apikeyrouter.infrastructure.state_store import open_store\n"
        "open_store('memory:')\n"
        "print('sqlite3' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout.strip() == "False"
