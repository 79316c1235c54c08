"""What each provider counts against its limits.

Main entry: `CHARGES`. Where a provider does not say, the rule that makes us more careful is taken (`ChargeRule()`),
unless it would lock out capacity for good; each row says which part is documented. Sources read 2026-11-21.
"""

from __future__ import annotations

from collections.abc import Mapping

from apikeyrouter.domain.quota.facts import ChargeRule

__all__ = ["CHARGES"]

CHARGES: Mapping[str, ChargeRule] = {
    # "max_tokens and the estimated number of tokens based on the character count"; unsuccessful requests count (OpenAI,
    # rate limits guide). Recorded: a prompt of 7 with max_tokens 50 took 57; without a cap only the prompt was taken,
    # and max_completion_tokens took nothing. Cached input counts (prompt caching guide).
    "openai": ChargeRule("cap", corrected=False, cached_input_counts=True, refused_count=True, failed_count=True),
    # Prompt, max_tokens and best_of, estimated when a request is received (Azure OpenAI quota page). Whether refusals
    # count is not documented: taken as OpenAI's.
    "azure": ChargeRule("cap", corrected=False, cached_input_counts=True, refused_count=True, failed_count=True),
    # Input estimated at the start and corrected; cache reads do not count on current models; output as it is
    # generated, max_tokens does not matter (Claude rate limits page). Refusals: not documented.
    "anthropic": ChargeRule("none", corrected=True, cached_input_counts=False, refused_count=True, failed_count=True),
    # Tokens are input only; requests that fail with 400 or 500 are not billed but count (Gemini billing page). Cached
    # input: not documented, so it counts.
    "gemini": ChargeRule("none", corrected=True, cached_input_counts=True, refused_count=True, failed_count=True),
    # "Cached tokens do not count towards your rate limits" (Groq rate limits page). "Requested" in refusals holds the
    # cap; two refusals 10 s apart show Used falling at the refill rate: what was refused took no tokens. That the
    # charge is corrected at the end is not documented; recorded: 5,987 of 6,000 left after a short chat without a cap.
    "groq": ChargeRule("cap", corrected=True, cached_input_counts=False, refused_count=True, failed_count=True),
    # Input and output (API limits page); x-ratelimit-tokens-query-cost tells the charge, so it is known at the end.
    "mistral": ChargeRule("none", corrected=True, cached_input_counts=True, refused_count=True, failed_count=True),
    # Free variants: every request counts (limits page). Paid: money held for input plus max_tokens, settled after.
    "openrouter": ChargeRule("cap", corrected=True, cached_input_counts=True, refused_count=True, failed_count=True),
    # Only requests under way (rate limit page): tokens do not matter, a refused request holds no place.
    "deepseek": ChargeRule("none", corrected=True, cached_input_counts=True, refused_count=False, failed_count=False),
    # Not documented; limits follow successful use (serverless rate limits page), so failures are taken as free.
    "together": ChargeRule("none", corrected=True, cached_input_counts=True, refused_count=True, failed_count=False),
    # Prompt, cached prompt, completion and reasoning all count (rate limits page). Refusals tell 65,605 used of
    # 16,000: what was used is counted afterwards, so nothing can be reserved.
    "xai": ChargeRule("none", corrected=True, cached_input_counts=True, refused_count=True, failed_count=True),
    # Calls only (rate limits page).
    "cohere": ChargeRule("none", corrected=True, cached_input_counts=True, refused_count=True, failed_count=True),
    # Estimated input plus max_completion_tokens, or an estimate, at admission (rate limits page); its engineers tell
    # clients to lower the cap since it stays taken. There is a limit for all tokens beside one for uncached ones.
    "cerebras": ChargeRule("cap", corrected=False, cached_input_counts=True, refused_count=True, failed_count=True),
    # Prompt, uncached prompt and generated tokens, counted as they flow (serverless rate limits page).
    "fireworks": ChargeRule("none", corrected=True, cached_input_counts=False, refused_count=True, failed_count=True),
    "generic": ChargeRule(),
}
"""By dialect."""
