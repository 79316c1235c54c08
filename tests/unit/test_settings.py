"""`RouterSettings`: where values come from, and how faults are told."""

from __future__ import annotations

import logging
import subprocess
import sys

import pytest

from apikeyrouter.domain.errors import ConfigurationError
from apikeyrouter.infrastructure.config.settings import RouterSettings


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for field in RouterSettings.model_fields:
        monkeypatch.delenv(f"APIKEYROUTER_{field.upper()}", raising=False)
    for name in ("LOG_LEVEL", "REQUEST_TIMEOUT"):
        monkeypatch.delenv(name, raising=False)


def test_every_setting_has_a_default() -> None:
    settings = RouterSettings()
    assert (settings.log_level, settings.attempts_max, settings.request_timeout_s) == ("INFO", 3, 600.0)
    assert (settings.default_objective, settings.retry_unanswered) == ("fairness", True)
    assert settings.response_max_bytes == 64 * 1024 * 1024


def test_one_argument_is_enough() -> None:
    assert RouterSettings(log_level="DEBUG").log_level == "DEBUG"


def test_an_argument_wins_over_our_variable_and_that_over_the_bare_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOG_LEVEL", "ERROR")
    monkeypatch.setenv("REQUEST_TIMEOUT", "30")
    assert (RouterSettings().log_level, RouterSettings().request_timeout_s) == ("ERROR", 30.0)
    monkeypatch.setenv("APIKEYROUTER_LOG_LEVEL", "CRITICAL")
    monkeypatch.setenv("APIKEYROUTER_REQUEST_TIMEOUT_S", "40")
    assert (RouterSettings().log_level, RouterSettings().request_timeout_s) == ("CRITICAL", 40.0)
    chosen = RouterSettings(log_level="DEBUG", request_timeout_s=50)
    assert (chosen.log_level, chosen.request_timeout_s) == ("DEBUG", 50.0)


def test_bare_names_other_than_the_two_are_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ATTEMPTS_MAX", "REQUEST_TIMEOUT_S", "IDLE_TIMEOUT_S"):
        monkeypatch.setenv(name, "17")
    assert RouterSettings() == RouterSettings(attempts_max=3, request_timeout_s=600, idle_timeout_s=120)


def test_empty_and_unrelated_variables_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APIKEYROUTER_ATTEMPTS_MAX", "")
    monkeypatch.setenv("LOG_LEVEL", "")
    monkeypatch.setenv("APIKEYROUTER_ENCRYPTION_KEY", "whatever")
    assert (RouterSettings().attempts_max, RouterSettings().log_level) == (3, "INFO")


@pytest.mark.parametrize(
    ("given", "level"), [("debug", "DEBUG"), (" Warn ", "WARNING"), ("fatal", "CRITICAL"), ("ERROR", "ERROR")]
)
def test_log_levels_are_taken_in_any_case_and_are_names_that_logging_knows(given: str, level: str) -> None:
    settings = RouterSettings.from_any({"log_level": given})
    assert settings.log_level == level
    assert isinstance(logging.getLevelName(settings.log_level), int)


def test_all_faults_are_told_together_with_the_variable_that_holds_them(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "sk-" + "x" * 20  # a key pasted into the wrong line
    monkeypatch.setenv("APIKEYROUTER_ATTEMPTS_MAX", text)
    monkeypatch.setenv("LOG_LEVEL", "LOUD")
    with pytest.raises(ConfigurationError) as caught:
        RouterSettings.from_any({"idle_timeout_s": -1, "colour": "red", "value_turn_usd": float("nan")})
    faults = dict(fault.split(":", 1) for fault in caught.value.faults)
    assert set(faults) == {
        "attempts_max (from the environment variable APIKEYROUTER_ATTEMPTS_MAX)",
        "log_level (from the environment variable LOG_LEVEL)",
        "idle_timeout_s",
        "value_turn_usd",
        "colour",
    }
    assert "idle_timeout_s" in faults["colour"], "an unknown name is answered with the known ones"
    assert text not in str(caught.value)


@pytest.mark.parametrize(
    "fields",
    [
        {"attempts_max": 0},
        {"request_timeout_s": 0},
        {"request_timeout_s": float("inf")},
        {"default_objective": "luck"},
        {"considered_max": 1},
        {"value_failure_usd": float("inf")},
        {"apikeyrouter_log_level": "DEBUG"},
    ],
)
def test_values_out_of_range_are_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError):
        RouterSettings.from_any(fields)


def test_settings_are_frozen() -> None:
    settings = RouterSettings()
    with pytest.raises(ValueError, match="frozen"):
        settings.attempts_max = 5  # type: ignore[misc]  # the point of the test


def test_settings_come_from_an_object_a_mapping_or_nothing() -> None:
    settings = RouterSettings(attempts_max=7)
    assert RouterSettings.from_any(settings) is settings
    assert RouterSettings.from_any({"attempts_max": 7}) == settings
    assert RouterSettings.from_any(None) == RouterSettings()
    with pytest.raises(ConfigurationError, match="not list"):
        RouterSettings.from_any([("attempts_max", 7)])  # type: ignore[arg-type]  # the point of the test


def test_the_values_reach_the_scorer() -> None:
    values = RouterSettings(value_failure_usd=1, value_latency_usd_per_s=2, value_load_usd=3, value_turn_usd=4).values
    assert (values.failure_usd, values.latency_usd_per_s, values.load_usd, values.turn_usd) == (1, 2, 3, 4)


def test_the_package_can_be_imported_without_the_settings_library() -> None:
    program = "import sys, apikeyrouter; print('pydantic_settings' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout.strip() == "False"
