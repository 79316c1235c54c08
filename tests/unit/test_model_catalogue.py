"""Names of models, what is known about them, and what is said to who mistyped."""

from __future__ import annotations

from datetime import date

import pytest

from apikeyrouter.domain.interfaces.model_names import ModelNames, NoNames
from apikeyrouter.infrastructure.catalogue.likeness import alike
from apikeyrouter.infrastructure.catalogue.model_rows import ALIASES, MODELS, SOURCES, SUCCESSORS
from apikeyrouter.infrastructure.catalogue.models import ModelCatalogue
from apikeyrouter.infrastructure.catalogue.names import is_open_model, makers_of
from apikeyrouter.infrastructure.catalogue.providers import NATIVE, find_row


@pytest.fixture(scope="module")
def catalogue() -> ModelCatalogue:
    return ModelCatalogue()


@pytest.mark.parametrize(
    "name",
    [
        "gpt-4-turbo",
        "gpt-4o",
        "gpt-4",
        "claude-3-opus",
        "claude-3-sonnet",
        "claude-3-haiku",
        "gemini-pro",
        "gemini-pro-vision",
        "llama-3-70b",
        "llama-3-8b",
        "mistral-large",
        "mistral-medium",
        "gpt-3.5-turbo",
    ],
)
def test_every_family_of_the_documents_is_known(catalogue: ModelCatalogue, name: str) -> None:
    facts = catalogue.find(name)
    assert facts is not None
    assert facts.maker
    assert facts.context_tokens is None or facts.context_tokens >= 4_096
    assert facts.source


def test_a_family_name_is_what_each_provider_calls_it(catalogue: ModelCatalogue) -> None:
    assert catalogue.name_at("mistral", "mistral-large") == "mistral-large-latest"
    assert catalogue.name_at("together", "llama-3-70b") == "meta-llama/Llama-3-70b-chat-hf"
    assert catalogue.name_at("litellm", "llama-3-70b") == "llama-3-70b"
    assert catalogue.name_at("openai", "gpt-4o") == "gpt-4o"


def test_prefixes_are_understood_as_people_write_them(catalogue: ModelCatalogue) -> None:
    assert catalogue.split("together_ai/meta-llama/Llama-3-70b") == ("together", "meta-llama/Llama-3-70b")
    assert catalogue.split("meta-llama/Llama-3-70b") == (None, "meta-llama/Llama-3-70b")
    assert catalogue.provider_meant("together_ai", {"together"}) == "together"
    assert catalogue.provider_meant("together_ai", {"openai"}) is None
    with_prefix, without = catalogue.find("openai/gpt-4o"), catalogue.find("gpt-4o")
    assert with_prefix == without


def test_abilities_and_limits_are_told_and_unknown_ones_are_none(catalogue: ModelCatalogue) -> None:
    known = catalogue.find("gpt-4o-2024-08-06")
    assert known is not None
    assert (known.context_tokens, known.output_tokens_max) == (128_000, 16_384)
    assert (known.tools, known.vision, known.json_schema, known.reasoning) == (True, True, True, False)
    listed = catalogue.find("text-embedding-ada-002")
    assert listed is not None
    assert (listed.tools, listed.source) == (None, "genai-prices")
    assert catalogue.find("never-heard-of-it") is None


def test_the_end_of_a_model_is_told_with_what_to_ask_for_instead(catalogue: ModelCatalogue) -> None:
    facts = catalogue.find("claude-3-opus")
    assert facts is not None
    assert facts.ends == date(2026, 1, 5)
    assert "2026-01-05; ask for claude-opus-5-5" in catalogue.advice("claude-3-opus", ["openai"])


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("gpt4o", "gpt-4o"), ("claud-3-opus", "claude-3-opus"), ("gemini-2.5-por", "gemini-2.5-pro"),
     ("openai/gpt-4o-mni", "gpt-4o-mini"), ("Mistral Large", "mistral-large")],
)  # fmt: skip
def test_who_mistyped_is_told_the_nearest_known_names(catalogue: ModelCatalogue, typed: str, meant: str) -> None:
    assert meant in catalogue.nearest(typed)
    assert meant in catalogue.advice(typed, ["openai"])


def test_nothing_is_suggested_for_what_is_like_nothing(catalogue: ModelCatalogue) -> None:
    assert catalogue.advice("zzzzqqqq-0000", ["openai"]) == ""
    assert alike("", ["a"]) == []
    assert alike("x" * 10_000, ["y"]) == []


def test_who_sells_a_model_is_told_by_our_ids(catalogue: ModelCatalogue) -> None:
    assert "register one of them" in catalogue.advice("grok-4.5", ["openai"])
    facts = catalogue.find("grok-4.5")
    assert facts is not None
    assert facts.sold_by[0] == "xai"


def test_names_that_one_maker_gives_are_told_from_those_of_open_models() -> None:
    for name, maker in {
        "gpt-4o": "openai", "o3-mini": "openai", "claude-opus-5": "anthropic", "gemini-2.5-pro": "gemini",
        "mistral-large-latest": "mistral", "grok-4.5": "xai", "gpt-oss-120b": None, "mistral:7b": None,
        "llama3.2": None, "olmo-2": None, "o1": "openai",
    }.items():  # fmt: skip
        assert makers_of(name) == maker, name
    assert is_open_model("gpt-oss-120b")
    assert is_open_model("acme/tuned")
    assert not is_open_model("my-model")


def test_the_tables_refer_to_what_exists() -> None:
    for row in MODELS.values():
        assert row.maker in SOURCES
    for family, names in ALIASES.items():
        for provider_id, name in names.items():
            assert provider_id in NATIVE or find_row(provider_id) is not None, provider_id
            assert name != family or provider_id == "sambanova"
    for old, new in SUCCESSORS.items():
        assert new in MODELS
        ends = MODELS[new].ends
        assert ends is None or ends > date(2026, 11, 21), (old, new)


def test_both_implementations_answer_the_port(catalogue: ModelCatalogue) -> None:
    for names in (catalogue, NoNames()):
        port: ModelNames = names
        assert port.name_at("openai", "gpt-4o") == "gpt-4o"
        assert port.provider_meant("openai", ["openai"]) == "openai"
    assert NoNames().advice("gpt4o", []) == ""
    assert NoNames().makers_of("gpt-4o") is None
