"""The published limits of tiers, as rows; `tiers` reads them.

Main entry: `ROWS`. A row says when its numbers held (`as_of`), where they stand (`source`), and whether they were read
in the provider's words, in somebody's dated copy of them, or only in users' reports (`seen`). Where a provider keeps
its numbers behind a login (OpenAI's by tier, Gemini's per model, Groq's developer plan) there is no row or an old one
that says so. Together has none: its limits follow each account's use. Azure has none: an operator sets them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from apikeyrouter.domain.quota.facts import Refill

__all__ = ["ROWS", "TierRow"]


_Said = tuple[str, str, Literal["provider", "copy", "reports"], str]
"""As of, source, in whose words, note."""


@dataclass(frozen=True, slots=True)
class TierRow:
    """Limits of one tier for some models.

    `models`: names, or beginnings of names with a "*" at the end. `limits`: (kind, amount), kinds as in `tiers`: rpm,
    rpd, tpm, itpm (input), otpm (output), usd_month (whole dollars) ... `shared`: the group that shares them ("" each
    model alone, "*" the account). `as_of`: when it was so, as an ISO date, month or year; when it was read
    where the source has no date (the note says so). `seen`: "provider" in the provider's own words, "copy" in
    somebody's copy of them, "reports" only in users' reports, secondary tables and recorded replies.
    """

    dialect: str
    tiers: tuple[str, ...]
    models: tuple[str, ...]
    limits: tuple[tuple[str, int], ...]
    as_of: str
    source: str
    seen: Literal["provider", "copy", "reports"]
    note: str = ""
    shared: str = ""
    refill: Refill | None = None
    time_zone: str = "UTC"


def _row(
    dialect: str,
    tiers: str,
    models: str,
    limits: str,
    said: _Said,
    shared: str = "",
    refill: Refill | None = None,
) -> TierRow:
    """A row out of words: tiers and models apart by blanks, limits as "rpm 500 tpm 30000". `said`: date, source ..."""
    words = limits.split()
    told = tuple((kind, int(amount)) for kind, amount in zip(words[::2], words[1::2], strict=True))
    as_of, source, seen, note = said
    zone = _PACIFIC if dialect == "gemini" and refill is Refill.Calendar else "UTC"
    return TierRow(
        dialect, tuple(tiers.split()), tuple(models.split()), told, as_of, source, seen, note, shared, refill, zone
    )


_PACIFIC = "America/Los_Angeles"
_CALENDAR, _CONTINUOUS = Refill.Calendar, Refill.Continuous
_GPT_5, _GPT_5_MINI = "gpt-5 gpt-5-20*", "gpt-5-mini gpt-5-mini-20*"
_GPT_4O, _GPT_4O_MINI = "gpt-4o gpt-4o-20*", "gpt-4o-mini gpt-4o-mini-20*"
_O3, _O4_MINI = "o3 o3-20*", "o4-mini o4-mini-20*"

_OPENAI_GUIDE = "https://developers.openai.com/api/docs/guides/rate-limits"
_WILLISON, _LIST = "https://simonwillison.net/b/9012", "https://www.scriptbyai.com/rate-limits-openai-api"
_QUOTED = "OpenAI's announcement as quoted; the guide has no numbers per tier, headers tell today's; requests from "
_GPT_SAID: _Said = ("2025-09-12", _WILLISON, "copy", _QUOTED + "an undated list of 2025: " + _LIST)
_GPT_RPM_SAID: _Said = ("2025-09-12", _WILLISON, "copy", _QUOTED + "an undated secondary table of GPT-5's class")
_LIST_SAID: _Said = ("2025", _LIST, "copy", "undated list of 2025; headers tell today's")
_COMMUNITY = "https://community.openai.com/t/1028595"
_OLD_SAID: _Said = (
    "2024",
    _COMMUNITY,
    "copy",
    "table of usage tier 1, undated; later replies still carried these limits",
)
_TIER_5_SAID: _Said = ("2025", _OPENAI_GUIDE, "reports", "recorded headers; that they were tier 5's is a conclusion")
_FREE_SAID: _Said = ("2024-08-30", _OPENAI_GUIDE, "reports", "refusals quoted by users; TPM from secondary tables")
_HIVE = "https://hivebook.wiki/wiki/openai-api-rate-limits"
_CAP_SAID: _Said = ("2026-11-21", _HIVE, "reports", "undated secondary table of the guide's usage limits; not verified")

_OPENAI = (
    _row("openai", "1", _GPT_5, "rpm 500 tpm 500000", _GPT_SAID),
    _row("openai", "2", _GPT_5, "rpm 5000 tpm 1000000", _GPT_RPM_SAID),
    _row("openai", "3", _GPT_5, "rpm 5000 tpm 2000000", _GPT_SAID),
    _row("openai", "4", _GPT_5, "rpm 10000 tpm 4000000", _GPT_RPM_SAID),
    _row("openai", "5", _GPT_5, "rpm 15000 tpm 40000000", _GPT_SAID),
    _row("openai", "1", _GPT_5_MINI, "rpm 500 tpm 500000", _GPT_SAID),
    _row("openai", "2", _GPT_5_MINI, "rpm 5000 tpm 2000000", _GPT_RPM_SAID),
    _row("openai", "3", _GPT_5_MINI, "rpm 5000 tpm 4000000", _GPT_SAID),
    _row("openai", "4", _GPT_5_MINI, "rpm 10000 tpm 10000000", _GPT_RPM_SAID),
    _row("openai", "5", _GPT_5_MINI, "rpm 30000 tpm 180000000", _GPT_SAID),
    _row("openai", "1", _O3, "rpm 500 tpm 30000", _LIST_SAID),
    _row("openai", "3", _O3, "rpm 5000 tpm 800000", _LIST_SAID),
    _row("openai", "1", _O4_MINI, "rpm 1000 tpm 100000", _LIST_SAID),
    _row("openai", "3", _O4_MINI, "rpm 5000 tpm 4000000", _LIST_SAID),
    _row("openai", "5", _O4_MINI, "rpm 30000 tpm 150000000", _LIST_SAID),
    _row("openai", "1", _GPT_4O, "rpm 500 tpm 30000", _OLD_SAID),
    _row("openai", "1", _GPT_4O_MINI, "rpm 500 rpd 10000 tpm 200000", _OLD_SAID),
    _row("openai", "5", _GPT_4O_MINI, "rpm 30000 tpm 150000000", _TIER_5_SAID),
    _row("openai", "free", _GPT_4O_MINI, "rpm 3 rpd 200 tpm 40000", _FREE_SAID),
    _row("openai", "free 1", "*", "usd_month 100", _CAP_SAID, "*", _CALENDAR),
    _row("openai", "2", "*", "usd_month 500", _CAP_SAID, "*", _CALENDAR),
    _row("openai", "3", "*", "usd_month 1000", _CAP_SAID, "*", _CALENDAR),
    _row("openai", "4", "*", "usd_month 5000", _CAP_SAID, "*", _CALENDAR),
    _row("openai", "5", "*", "usd_month 200000", _CAP_SAID, "*", _CALENDAR),
)

_CLAUDE = "https://platform.claude.com/docs/en/api/rate-limits"
_DIGEST = "in a dated digest of the page; Build, and the other models of Start and Scale, could not be read"
_CLAUDE_SAID: _Said = (
    "2026-10-17",
    _CLAUDE,
    "copy",
    "Build, and the other models of Start and Scale, could not be read",
)
_MERGED = (
    "became Start, Build and Scale on 2026-06-26, nobody getting less; from a machine-readable copy, which "
    "other copies contradict for Opus (tier 1: 30,000 and 8,000)"
)
_CLAUDE_OLD: _Said = ("2026-05-22", _CLAUDE, "copy", _MERGED)
_CLAUDE_CAP: _Said = ("2026-09-20", _CLAUDE, "provider", "resumes at 00:00 UTC on the first")
_FABLE, _OPUS, _SONNET, _HAIKU = "claude-fable-5", "claude-opus-4", "claude-sonnet-4", "claude-haiku-4"


def _claude(tier: str, pool: str, limits: str, said: _Said) -> TierRow:
    return _row("anthropic", tier, pool + "*", limits, said, pool, _CONTINUOUS)


_ANTHROPIC = (
    _claude("start", _FABLE, "rpm 1000 itpm 500000 otpm 100000", _CLAUDE_SAID),
    _claude("scale", _FABLE, "rpm 4000 itpm 4000000 otpm 800000", _CLAUDE_SAID),
    _claude("1", _OPUS, "rpm 50 itpm 500000 otpm 80000", _CLAUDE_OLD),
    _claude("2", _OPUS, "rpm 1000 itpm 2000000 otpm 200000", _CLAUDE_OLD),
    _claude("3", _OPUS, "rpm 2000 itpm 5000000 otpm 400000", _CLAUDE_OLD),
    _claude("4", _OPUS, "rpm 4000 itpm 10000000 otpm 800000", _CLAUDE_OLD),
    _claude("1", _SONNET, "rpm 50 itpm 30000 otpm 8000", _CLAUDE_OLD),
    _claude("2", _SONNET, "rpm 1000 itpm 450000 otpm 90000", _CLAUDE_OLD),
    _claude("3", _SONNET, "rpm 2000 itpm 800000 otpm 160000", _CLAUDE_OLD),
    _claude("4", _SONNET, "rpm 4000 itpm 2000000 otpm 400000", _CLAUDE_OLD),
    _claude("1", _HAIKU, "rpm 50 itpm 50000 otpm 10000", _CLAUDE_OLD),
    _claude("2", _HAIKU, "rpm 1000 itpm 450000 otpm 90000", _CLAUDE_OLD),
    _claude("3", _HAIKU, "rpm 2000 itpm 1000000 otpm 200000", _CLAUDE_OLD),
    _claude("4", _HAIKU, "rpm 4000 itpm 4000000 otpm 800000", _CLAUDE_OLD),
    _row("anthropic", "start", "*", "usd_month 500", _CLAUDE_CAP, "*", _CALENDAR),
    _row("anthropic", "build", "*", "usd_month 1000", _CLAUDE_CAP, "*", _CALENDAR),
    _row("anthropic", "scale", "*", "usd_month 200000", _CLAUDE_CAP, "*", _CALENDAR),
)

_GEMINI_PAGE = "https://ai.google.dev/gemini-api/docs/rate-limits"
_HIDDEN = "requests and tokens per model are shown only in AI Studio; tier 3's rolling limit could not be read"
_GEMINI_SAID: _Said = ("2026-10-17", _GEMINI_PAGE, "copy", _HIDDEN)
_GEMINI_OLD: _Said = (
    "2025-05-20",
    _GEMINI_PAGE,
    "provider",
    "no numbers per model published since; lowered in 2025-12",
)
_FLASH, _PRO = "gemini-2.5-flash", "gemini-2.5-pro"
_GEMINI = (
    _row("gemini", "1", "*", "usd_10min 10", _GEMINI_SAID, "*", Refill.Rolling),
    _row("gemini", "2", "*", "usd_10min 50", _GEMINI_SAID, "*", Refill.Rolling),
    _row("gemini", "1", "*", "usd_month 250", _GEMINI_SAID, "*"),
    _row("gemini", "2", "*", "usd_month 2000", _GEMINI_SAID, "*"),
    _row("gemini", "free", _FLASH, "rpm 10 itpm 250000", _GEMINI_OLD),
    _row("gemini", "free", _FLASH, "rpd 500", _GEMINI_OLD, "", _CALENDAR),
    _row("gemini", "1", _FLASH, "rpm 1000 itpm 1000000", _GEMINI_OLD),
    _row("gemini", "1", _FLASH, "rpd 10000", _GEMINI_OLD, "", _CALENDAR),
    _row("gemini", "1", _PRO, "rpm 150 itpm 2000000", _GEMINI_OLD),
    _row("gemini", "1", _PRO, "rpd 1000", _GEMINI_OLD, "", _CALENDAR),
)

_GROQ_PAGE = "https://console.groq.com/docs/rate-limits"
_GROQ_NOTE = "free plan, page and a dated copy of it; the developer plan's numbers are shown only in the console"
_GROQ_SAID: _Said = ("2026-08-31", _GROQ_PAGE, "copy", _GROQ_NOTE)
_GROQ = (
    _row("groq", "free", "llama-3.3-70b-versatile", "rpm 30 rpd 1000 tpm 12000 tpd 100000", _GROQ_SAID),
    _row("groq", "free", "openai/gpt-oss-120b openai/gpt-oss-20b", "rpm 30 rpd 1000 tpm 8000 tpd 200000", _GROQ_SAID),
    _row("groq", "free", "llama-3.1-8b-instant", "rpm 30 rpd 14400 tpm 6000 tpd 500000", _GROQ_SAID),
    _row("groq", "free", "qwen/qwen3.6-27b", "rpm 30 rpd 1000 tpm 8000 tpd 200000", _GROQ_SAID),
    _row("groq", "free", "groq/compound groq/compound-mini", "rpm 30 rpd 250 tpm 70000", _GROQ_SAID),
)

_UNDATED = "read on that day in an undated copy of the page"
_OPENROUTER_PAGE = "https://openrouter.ai/docs/api-reference/limits"
_FEW_SAID: _Said = ("2026-10-17", _OPENROUTER_PAGE, "provider", "less than 10 credits bought, ever")
_MANY_SAID: _Said = ("2026-10-17", _OPENROUTER_PAGE, "provider", "at least 10 credits bought, ever")
_COHERE_SAID: _Said = ("2026-08-31", "https://docs.cohere.com/docs/rate-limits", "provider", "each chat model alone")
_COHERE_MONTH: _Said = ("2026-08-31", "https://docs.cohere.com/docs/rate-limits", "provider", "all endpoints together")
_CHAT = "command-a-0* command-a command-r*"
_CEREBRAS_PAGE = "https://inference-docs.cerebras.ai/support/rate-limits"
_CEREBRAS_SAID: _Said = ("2026-08-31", _CEREBRAS_PAGE, "copy", "")
_DEVELOPER_SAID: _Said = ("2026-06-12", _CEREBRAS_PAGE, "copy", "confirmed by somebody from headers")
_DEEPSEEK_SAID: _Said = ("2026-11-21", "https://api-docs.deepseek.com/quick_start/rate_limit", "provider", _UNDATED)
_XAI_SAID: _Said = ("2026-10-17", "https://docs.x.ai/developers/rate-limits", "copy", "tokens of tiers 1 to 3 not read")
_GROK = "grok-4.7* grok-4.6* grok-4.5*"
_MISTRAL_PAGE = "https://help.mistral.ai/en/articles/225174-what-are-the-limits-of-the-free-tier"
_MISTRAL_SAID: _Said = (
    "2026-11-21",
    _MISTRAL_PAGE,
    "provider",
    _UNDATED + "; newer pages tell no numbers, nor who shares them",
)
_FIREWORKS_PAGE = "https://docs.fireworks.ai/serverless/rate-limits"
_STARTS = _UNDATED + "; where accounts start, limits follow use. Input that no cache held (of all input: 3,600,000)"
_FIREWORKS_SAID: _Said = ("2026-11-21", _FIREWORKS_PAGE, "provider", _STARTS)
_OTHERS = (
    _row("openrouter", "free", "*", "rpm 20", _FEW_SAID, "free-models"),
    _row("openrouter", "free", "*", "rpd 50", _FEW_SAID, "free-models", _CALENDAR),
    _row("openrouter", "credits paid", "*", "rpm 20", _MANY_SAID, "free-models"),
    _row("openrouter", "credits paid", "*", "rpd 1000", _MANY_SAID, "free-models", _CALENDAR),
    _row("cohere", "trial free", "command-a* command-r*", "rpm 20", _COHERE_SAID),
    _row("cohere", "trial free", "*", "requests_month 1000", _COHERE_MONTH, "*"),
    _row("cohere", "production", _CHAT, "rpm 500", _COHERE_SAID),
    _row("cerebras", "free", "gpt-oss-120b gemma-4-31b", "rpm 5 tpm 30000 tph 1000000 tpd 1000000", _CEREBRAS_SAID),
    _row("cerebras", "developer", "gpt-oss-120b", "rpm 250 tpm 250000", _DEVELOPER_SAID),
    _row("deepseek", "default standard", "deepseek-flash deepseek-v4-flash", "concurrent 2500", _DEEPSEEK_SAID),
    _row("deepseek", "default standard", "deepseek-v4-pro", "concurrent 500", _DEEPSEEK_SAID),
    _row("xai", "0", _GROK, "rps 150 tpm 50000000", _XAI_SAID),
    _row("xai", "1", _GROK, "rps 172", _XAI_SAID),
    _row("xai", "2", _GROK, "rps 208", _XAI_SAID),
    _row("xai", "3", _GROK, "rps 312", _XAI_SAID),
    _row("xai", "4", _GROK, "rps 500 tpm 100000000", _XAI_SAID),
    _row("mistral", "free experiment", "*", "rps 1 tpm 500000 tokens_month 1000000000", _MISTRAL_SAID),
    _row("fireworks", "default 1", "*", "itpm 900000 otpm 36000", _FIREWORKS_SAID, "*"),
)

ROWS: Sequence[TierRow] = (*_OPENAI, *_ANTHROPIC, *_GEMINI, *_GROQ, *_OTHERS)
"""Every row. Of two rows that say the same of one model the first counts."""
