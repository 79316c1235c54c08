"""What the proxy reads from outside: variables, `.env`, secret files, and keys among them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from apikeyrouter.domain.errors import ConfigurationError
from apikeyrouter_proxy.env_keys import is_placeholder, read_env_keys
from apikeyrouter_proxy.settings import ProxySettings, is_loopback

KEY = "sk-" + "a1" * 12
OTHER = "sk-" + "b2" * 12
ANYWHERE = "0.0.0.0"
ADMIN = "admin-" + "c3" * 10


def materials(environ: dict[str, str]) -> list[tuple[str, str]]:
    keys, _, faults = read_env_keys(environ)
    assert not faults
    return [(key.variable, key.material.reveal()) for key in keys]


def test_defaults_listen_on_loopback_with_a_database_in_the_user_data_directory(tmp_path: Path) -> None:
    settings = ProxySettings.from_environ({"HOME": str(tmp_path)})
    assert (settings.host, settings.port) == ("127.0.0.1", 8000)
    assert settings.bound_to_loopback
    assert settings.store_url == f"sqlite:///{tmp_path}/.local/share/apikeyrouter/state.sqlite"
    assert settings.openai_base_url == "https://api.openai.com/v1"
    assert (settings.body_limit_bytes, settings.shutdown_timeout_s) == (10 * 1024 * 1024, 30.0)
    assert not settings.require_auth
    assert settings.admin_key is None


def test_every_variable_is_read() -> None:
    settings = ProxySettings.from_environ(
        {
            "PROXY_HOST": ANYWHERE,
            "PROXY_PORT": "9000",
            "LOG_LEVEL": "debug",
            "APIKEYROUTER_STORE": "memory:",
            "APIKEYROUTER_ENCRYPTION_KEY": "correct horse",
            "APIKEYROUTER_ADMIN_KEY": ADMIN,
            "APIKEYROUTER_REQUIRE_AUTH": "yes",
            "APIKEYROUTER_ALLOWED_HOSTS": "LLM.example.com, other.example:8443",
            "APIKEYROUTER_ALLOWED_ORIGINS": "https://App.example.com/, http://localhost:3000",
            "OPENAI_BASE_URL": "http://127.0.0.1:8010/v1/",
            "SHUTDOWN_TIMEOUT_SECONDS": "5",
            "APIKEYROUTER_ATTEMPTS_MAX": "5",
            "REQUEST_TIMEOUT": "300",
        }
    )
    assert (settings.host, settings.port, settings.log_level) == (ANYWHERE, 9000, "DEBUG")
    assert not settings.bound_to_loopback
    assert settings.encryption_key is not None
    assert settings.encryption_key.reveal() == "correct horse"
    assert settings.admin_key is not None
    assert settings.admin_key.reveal() == ADMIN
    assert settings.require_auth
    assert settings.allowed_hosts == ("llm.example.com", "other.example")
    assert settings.allowed_origins == ("https://app.example.com", "http://localhost:3000")
    assert settings.openai_base_url == "http://127.0.0.1:8010/v1"
    assert settings.shutdown_timeout_s == 5
    assert settings.router_config == {"attempts_max": "5", "request_timeout_s": "300"}
    assert ADMIN not in repr(settings)
    assert "correct horse" not in repr(settings)


@pytest.mark.parametrize("name", ["APIKEYROUTER_ADMIN_KEY", "MANAGEMENT_API_KEY", "APIKEYROUTER_MANAGEMENT_API_KEY"])
def test_the_admin_key_has_three_names(name: str) -> None:
    settings = ProxySettings.from_environ({name: ADMIN})
    assert settings.admin_key is not None
    assert settings.admin_key.reveal() == ADMIN


def test_port_is_a_fallback_for_proxy_port() -> None:
    assert ProxySettings.from_environ({"PORT": "7000"}).port == 7000
    assert ProxySettings.from_environ({"PORT": "7000", "PROXY_PORT": "7001"}).port == 7001


def test_all_faults_are_told_at_once_without_any_secret() -> None:
    wrong = "short" + "-pw"
    with pytest.raises(ConfigurationError) as caught:
        ProxySettings.from_environ(
            {
                "PROXY_PORT": "99999",
                "PROXY_HOST": "http://0.0.0.0",
                "LOG_LEVEL": "loud",
                "APIKEYROUTER_STORE": "mongodb://u:hunter2@h/x",
                "APIKEYROUTER_ADMIN_KEY": wrong,
                "APIKEYROUTER_REQUIRE_AUTH": "perhaps",
                "APIKEYROUTER_ALLOWED_ORIGINS": "*",
                "OPENAI_BASE_URL": "api.openai.com",
                "SHUTDOWN_TIMEOUT_SECONDS": "-1",
                "OPENAI_API_KEY_2": "sk-with space",
                "APIKEYROUTER_ATTEMPTS_MAX": "0",
            }
        )
    text = str(caught.value)
    named = {fault.partition(":")[0].partition(" ")[0] for fault in caught.value.faults}
    assert named == {
        "PROXY_PORT", "PROXY_HOST", "LOG_LEVEL", "APIKEYROUTER_STORE", "APIKEYROUTER_ADMIN_KEY",
        "APIKEYROUTER_REQUIRE_AUTH", "APIKEYROUTER_ALLOWED_ORIGINS", "OPENAI_BASE_URL", "SHUTDOWN_TIMEOUT_SECONDS",
        "OPENAI_API_KEY_2", "APIKEYROUTER_ATTEMPTS_MAX",
    }  # fmt: skip
    for secret in (wrong, "hunter2", "sk-with space"):
        assert secret not in text


def test_the_documentations_admin_key_is_not_a_password() -> None:
    with pytest.raises(ConfigurationError, match="openssl rand"):
        ProxySettings.from_environ({"APIKEYROUTER_ADMIN_KEY": "your-management-key-here"})


def test_dotenv_is_read_below_the_environment_and_never_exported(tmp_path: Path) -> None:
    dotenv = tmp_path / ".env"
    dotenv.write_text(
        f"APIKEYROUTER_ENCRYPTION_KEY=your-encryption-key\nLOG_LEVEL=WARNING\nPROXY_PORT=8123\nOPENAI_API_KEY={KEY}\n"
        "AKR_TEST_ONLY='with ${HOME} inside'\n"
    )
    settings = ProxySettings.from_environ({"LOG_LEVEL": "ERROR"}, dotenv)
    assert (settings.log_level, settings.port) == ("ERROR", 8123)
    assert settings.encryption_key is not None
    assert settings.encryption_key.reveal() == "your-encryption-key"
    assert [key.variable for key in settings.env_keys] == ["OPENAI_API_KEY"]
    assert "AKR_TEST_ONLY" not in os.environ
    assert ProxySettings.from_environ({}, tmp_path / "absent").port == 8000


def test_secrets_may_come_from_files(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(KEY + "\n")
    (tmp_path / "keys").write_text(f"{OTHER}\n{KEY}\n")
    (tmp_path / "admin").write_text(ADMIN)
    settings = ProxySettings.from_environ(
        {
            "OPENAI_API_KEY_FILE": str(tmp_path / "key"),
            "OPENAI_API_KEY_7_FILE": str(tmp_path / "keys"),
            "APIKEYROUTER_ADMIN_KEY_FILE": str(tmp_path / "admin"),
        }
    )
    assert [(k.variable, k.material.reveal()) for k in settings.env_keys] == [
        ("OPENAI_API_KEY", KEY),
        ("OPENAI_API_KEY_7", OTHER),
    ]
    assert settings.admin_key is not None
    assert settings.admin_key.reveal() == ADMIN


def test_a_secret_file_that_cannot_be_used_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("\n")
    with pytest.raises(ConfigurationError) as caught:
        ProxySettings.from_environ(
            {
                "OPENAI_API_KEY_FILE": str(tmp_path / "absent"),
                "APIKEYROUTER_ENCRYPTION_KEY_FILE": str(tmp_path / "empty"),
                "APIKEYROUTER_ADMIN_KEY": ADMIN,
                "APIKEYROUTER_ADMIN_KEY_FILE": str(tmp_path / "empty"),
            }
        )
    assert len(caught.value.faults) == 3
    assert ADMIN not in str(caught.value)


def test_keys_come_from_one_variable_a_list_and_numbers_in_order() -> None:
    environ = {
        "OPENAI_API_KEY_10": "sk-ten-000",
        "OPENAI_API_KEY_2": "sk-two-000",
        "OPENAI_API_KEY": f"{KEY}, {OTHER},",
        "OPENAI_API_KEY_1": '"sk-key-1"',
        "OPENAI_API_KEY_X": "sk-not-a-number",
        "MY_OPENAI_API_KEY": "sk-not-ours",
    }
    assert materials(environ) == [
        ("OPENAI_API_KEY", KEY),
        ("OPENAI_API_KEY", OTHER),
        ("OPENAI_API_KEY_1", "sk-key-1"),
        ("OPENAI_API_KEY_2", "sk-two-000"),
        ("OPENAI_API_KEY_10", "sk-ten-000"),
    ]


def test_blank_keys_are_ignored_and_the_same_key_counts_once() -> None:
    assert materials({"OPENAI_API_KEY": "  ", "OPENAI_API_KEY_1": KEY, "OPENAI_API_KEY_2": f" {KEY} "}) == [
        ("OPENAI_API_KEY_1", KEY)
    ]


@pytest.mark.parametrize(
    "text",
    ["sk-...", "your-api-key-here", "YOUR_OPENAI_API_KEY", "sk-your-key-here", "<your key>", "sk-xxxxxxxx", "changeme",
     "sk-proj-...", "your-encryption-key", "replace-with-your-key"],
)  # fmt: skip
def test_placeholders_are_recognised(text: str) -> None:
    assert is_placeholder(text)


@pytest.mark.parametrize("text", [KEY, "sk-key-1", "dummy", "test", "sk-proj-Ab3x", "EMPTY", "not-needed", "key"])
def test_real_and_deliberately_short_keys_are_no_placeholders(text: str) -> None:
    assert not is_placeholder(text)


def test_a_placeholder_is_ignored_with_a_warning_that_names_the_variable() -> None:
    keys, warnings, faults = read_env_keys({"OPENAI_API_KEY": f"{KEY},sk-...", "OPENAI_API_KEY_1": "your-api-key-here"})
    assert [key.material.reveal() for key in keys] == [KEY]
    assert not faults
    assert ["OPENAI_API_KEY (entry 2)" in warnings[0], "OPENAI_API_KEY_1" in warnings[1]] == [True, True]


@pytest.mark.parametrize(
    ("host", "local"),
    [("127.0.0.1", True), ("127.8.8.8", True), ("localhost", True), ("::1", True), ("[::1]", True),
     ("::ffff:127.0.0.1", True), (ANYWHERE, False), ("::", False), ("192.168.1.5", False),
     ("localhost.evil.com", False)],
)  # fmt: skip
def test_loopback_is_told_from_the_rest(host: str, local: bool) -> None:
    assert is_loopback(host) is local
