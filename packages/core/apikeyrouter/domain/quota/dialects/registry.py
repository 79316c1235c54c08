"""Every dialect by its name, and the header tables of those that are only data.

Main entry: `limit_dialect`. Names are those of `ProviderAdapter.dialect`. Adding a provider adds lanes, a row of
charges and rows of tiers. Sources of the names: the providers' rate limit pages, and recorded replies of OpenAI,
Anthropic, Azure, Groq and Together (`bench/limit_headers.py` says which are read fully).
"""

from __future__ import annotations

from collections.abc import Mapping

from apikeyrouter.domain.quota.dialects.base import HeaderDialect
from apikeyrouter.domain.quota.dialects.charges import CHARGES
from apikeyrouter.domain.quota.dialects.lanes import CHARGED, LIMIT, PERIOD, REMAINING, RESET, HeaderTable, Lane
from apikeyrouter.domain.quota.dialects.providers import (
    AnthropicDialect,
    AzureDialect,
    CohereDialect,
    CompatibleDialect,
    DeepSeekDialect,
    GeminiDialect,
    OpenRouterDialect,
)
from apikeyrouter.domain.quota.dialects.sharing import (
    ACCOUNT,
    FREE_MODELS,
    claude_class,
    free_variants,
    plain_name,
    whole_account,
    without_date,
)
from apikeyrouter.domain.quota.facts import DAY_S, MINUTE_S, MONTH_S, Dimension, Refill

__all__ = ["DIALECTS", "limit_dialect"]

_D = Dimension
_SIDES = ((LIMIT, "limit"), (REMAINING, "remaining"), (RESET, "reset"))


def _openai_names(what: str) -> dict[int, str]:
    """ "x-ratelimit-limit-requests" and its kin."""
    return {side: f"x-ratelimit-{word}-{what}" for side, word in _SIDES}


def _anthropic_names(what: str) -> dict[int, str]:
    return {side: f"anthropic-ratelimit-{what}-{word}" for side, word in _SIDES}


_UNITS = (
    ("requests", _D.Requests),
    ("req", _D.Requests),
    ("tokens", _D.Tokens),
    ("input-tokens", _D.InputTokens),
    ("output-tokens", _D.OutputTokens),
)
_PERIODS = (
    ("second", 1.0),
    ("minute", MINUTE_S),
    ("5-minute", 5 * MINUTE_S),
    ("hour", 3_600.0),
    ("day", DAY_S),
    ("month", MONTH_S),
)


def _with_periods() -> list[Lane]:
    """Names that end in their period: "x-ratelimit-limit-tokens-minute" (Cerebras, Mistral, SambaNova and others)."""
    lanes: list[Lane] = []
    for what, dimension in _UNITS:
        for word, period_s in _PERIODS:
            names = _openai_names(f"{what}-{word}")
            if what == "tokens" and word == "minute":
                names[CHARGED] = "x-ratelimit-tokens-query-cost"  # Mistral
            lanes.append(Lane(dimension, period_s, names))
    return lanes


_CONTINUOUS = Refill.Continuous
_TOKENS_NAMES = _openai_names("tokens")
_PLAIN_NAMES = {LIMIT: "x-ratelimit-limit", REMAINING: "x-ratelimit-remaining", RESET: "x-ratelimit-reset"}
_PLAIN = Lane(_D.Requests, 0.0, _PLAIN_NAMES, reset_means="window")
_OPENAI_IGNORED = [
    name for what in ("input-images", "images", "audio-seconds") for name in _openai_names(what).values()
]

_OPENAI_LANES = (
    Lane(_D.Requests, MINUTE_S, _openai_names("requests"), refill=_CONTINUOUS, may_be_daily=True),
    Lane(_D.Tokens, MINUTE_S, _TOKENS_NAMES, refill=_CONTINUOUS),
    Lane(_D.Tokens, MINUTE_S, _openai_names("project-tokens"), refill=_CONTINUOUS, twin=True),
    Lane(_D.Tokens, MINUTE_S, _openai_names("tokens_usage_based"), refill=_CONTINUOUS, twin=True),
    Lane(_D.Requests, MINUTE_S, _openai_names("project-requests"), refill=_CONTINUOUS, twin=True),
)
_OPENAI = HeaderTable([*_OPENAI_LANES, *_with_periods(), _PLAIN], _OPENAI_IGNORED)

# An imitation's refill is not known to be OpenAI's.
_GENERIC = HeaderTable(
    [
        Lane(_D.Requests, MINUTE_S, _openai_names("requests"), may_be_daily=True),
        Lane(_D.Tokens, MINUTE_S, _TOKENS_NAMES),
        Lane(_D.InputTokens, MINUTE_S, _openai_names("input-tokens")),
        Lane(_D.OutputTokens, MINUTE_S, _openai_names("output-tokens")),
        *_with_periods(),
        _PLAIN,
    ],
    _OPENAI_IGNORED,
)

_ANTHROPIC = HeaderTable(
    [
        Lane(dimension, MINUTE_S, _anthropic_names(what), refill=_CONTINUOUS)
        for what, dimension in (
            ("requests", _D.Requests),
            ("input-tokens", _D.InputTokens),
            ("output-tokens", _D.OutputTokens),
            ("tokens", _D.Tokens),
        )
    ],
    # Pools of their own: priority capacity that was bought, and the fast mode.
    [
        f"anthropic-{pool}-{what}-{word}"
        for pool in ("priority", "fast")
        for what in ("input-tokens", "output-tokens")
        for _, word in _SIDES
    ],
)

_AZURE = HeaderTable(
    [
        Lane(_D.Requests, MINUTE_S, {**_openai_names("requests"), PERIOD: "x-ratelimit-renewalperiod-requests"}),
        Lane(_D.Tokens, MINUTE_S, {**_TOKENS_NAMES, PERIOD: "x-ratelimit-renewalperiod-tokens"}),
    ],
    ["x-ratelimit-abusepenalty-active", "x-ratelimit-abusepenalty-remaining", *_OPENAI_IGNORED],
)

# The same names as OpenAI's: requests are always per day here, tokens always per minute (Groq rate limits page).
_GROQ = HeaderTable(
    [
        Lane(_D.Requests, DAY_S, _openai_names("requests"), refill=_CONTINUOUS),
        Lane(_D.Tokens, MINUTE_S, _TOKENS_NAMES, refill=_CONTINUOUS),
        Lane(_D.InputTokens, MINUTE_S, _openai_names("input-tokens"), refill=_CONTINUOUS),
        Lane(_D.OutputTokens, MINUTE_S, _openai_names("output-tokens"), refill=_CONTINUOUS),
    ],
    [name for what in ("audio-seconds", "audio-seconds-day") for name in _openai_names(what).values()],
)

_MISTRAL = HeaderTable(
    [*_with_periods(), _PLAIN],
    [name for word, _ in _PERIODS for name in _openai_names(f"ocr-pages-{word}").values()],
)

# Rates per second (serverless rate limits page). Tokens are counted per minute: one prompt may exceed a second's worth.
_TOGETHER = HeaderTable(
    [
        Lane(_D.Requests, 1.0, _PLAIN_NAMES),
        Lane(
            _D.Requests,
            1.0,
            {LIMIT: "x-ratelimit-limit-dynamic", REMAINING: "x-ratelimit-remaining-dynamic"},
            twin=True,
        ),
        Lane(
            _D.Tokens,
            MINUTE_S,
            {LIMIT: "x-tokenlimit-limit", REMAINING: "x-tokenlimit-remaining", RESET: "x-tokenlimit-reset"},
            scale=60,
        ),
        Lane(
            _D.Tokens,
            MINUTE_S,
            {LIMIT: "x-tokenlimit-limit-dynamic", REMAINING: "x-tokenlimit-remaining-dynamic"},
            scale=60,
            twin=True,
        ),
    ]
)

# Headers tell tokens a second, the limits count tokens a minute (serverless overview and rate limits pages). All of the
# prompt is limited too, at four times as much as the part that no cache held: the latter is read.
_FIREWORKS = HeaderTable(
    [
        Lane(
            _D.InputTokens,
            MINUTE_S,
            {LIMIT: "x-ratelimit-limit-tokens-cache-adjusted-prompt"},
            models=ACCOUNT,
            scale=60,
        ),
        Lane(_D.OutputTokens, MINUTE_S, {LIMIT: "x-ratelimit-limit-tokens-generated"}, models=ACCOUNT, scale=60),
        Lane(_D.Requests, MINUTE_S, _openai_names("requests"), models=ACCOUNT),
    ],
    [
        "x-ratelimit-over-limit",
        "x-ratelimit-limit-tokens-prompt",
        *(f"x-ratelimit-remaining-tokens-{kind}" for kind in ("prompt", "cache-adjusted-prompt", "generated")),
    ],
)

_COHERE = HeaderTable(
    [
        Lane(
            _D.Requests,
            MINUTE_S,
            {LIMIT: "x-trial-endpoint-call-limit", REMAINING: "x-trial-endpoint-call-remaining"},
        ),
        Lane(
            _D.Requests,
            MONTH_S,
            {LIMIT: "x-endpoint-monthly-call-limit", REMAINING: "x-endpoint-monthly-call-remaining"},
            models=ACCOUNT,
        ),
    ]
)

_OPENROUTER = HeaderTable([Lane(_D.Requests, 0.0, _PLAIN_NAMES, reset_means="window", models=FREE_MODELS)])

DIALECTS: Mapping[str, HeaderDialect] = {
    dialect.name: dialect
    for dialect in (
        CompatibleDialect("openai", _OPENAI, CHARGES["openai"], sharing=without_date),
        AnthropicDialect("anthropic", _ANTHROPIC, CHARGES["anthropic"], sharing=claude_class),
        AzureDialect("azure", _AZURE, CHARGES["azure"]),
        GeminiDialect("gemini", _GENERIC, CHARGES["gemini"], header_limits=False, sharing=plain_name),
        HeaderDialect("groq", _GROQ, CHARGES["groq"]),
        HeaderDialect("mistral", _MISTRAL, CHARGES["mistral"]),
        OpenRouterDialect("openrouter", _OPENROUTER, CHARGES["openrouter"], header_limits=False, sharing=free_variants),
        DeepSeekDialect("deepseek", _GENERIC, CHARGES["deepseek"], header_limits=False),
        HeaderDialect("together", _TOGETHER, CHARGES["together"]),
        CompatibleDialect("xai", _GENERIC, CHARGES["xai"]),
        CohereDialect("cohere", _COHERE, CHARGES["cohere"]),
        HeaderDialect("bedrock", _GENERIC, CHARGES["bedrock"], header_limits=False),
        CompatibleDialect("cerebras", _GENERIC, CHARGES["cerebras"]),
        HeaderDialect("fireworks", _FIREWORKS, CHARGES["fireworks"], sharing=whole_account),
        CompatibleDialect("generic", _GENERIC, CHARGES["generic"]),
    )
}
"""Every dialect that is known. They hold no state, so one of each serves everybody."""


def limit_dialect(name: str) -> HeaderDialect:
    """The dialect of that name; "generic" for a name that is not known."""
    return DIALECTS.get(name, DIALECTS["generic"])
