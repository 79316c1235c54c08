"""What each provider counts against its limits.

Main entry: `CHARGES`. Where a provider does not say, the rule that makes us more careful is taken (`ChargeRule()`),
unless it would lock out capacity for good. Each row names the page that says it ("notes": as collected in the design
notes on reliability, section 1, and not read again) or calls it a judgement.
"""

from __future__ import annotations

from collections.abc import Mapping

from apikeyrouter.domain.quota.facts import ChargeRule

__all__ = ["CHARGES"]

CHARGES: Mapping[str, ChargeRule] = {
    # max_tokens or an estimate from characters, whichever is more, and failed requests count (notes). Recorded: a
    # prompt of about 7 with max_tokens 50 took 57; without a cap only the prompt was taken, and max_completion_tokens
    # took nothing. That cached input counts is a judgement.
    "openai": ChargeRule("cap", corrected=False, cached_input_counts=True, refused_count=True, failed_count=True),
    # Estimated prompt and max_tokens x best_of; the limiter uses estimates, so nothing is corrected (notes). Refusals
    # and cached input: judged as OpenAI's.
    "azure": ChargeRule("cap", corrected=False, cached_input_counts=True, refused_count=True, failed_count=True),
    # Input estimated at the start and corrected; cache reads do not count on current models; output as it is
    # generated, max_tokens does not matter (notes; platform.claude.com/docs/en/api/rate-limits). Pages of 2025 charged
    # max_tokens and corrected it. That refusals count is a judgement.
    "anthropic": ChargeRule("none", corrected=True, cached_input_counts=False, refused_count=True, failed_count=True),
    # Tokens are input only (ai.google.dev/gemini-api/docs/rate-limits); what fails with 400 or 500 is not billed but
    # counts (notes). Cached input: a judgement.
    "gemini": ChargeRule("none", corrected=True, cached_input_counts=True, refused_count=True, failed_count=True),
    # "Cached tokens do not count" (console.groq.com/docs/rate-limits). Two refusals 10 s apart whose Used fell at the
    # refill rate show that refused tokens are not kept. That the cap is taken and given back is a judgement; recorded:
    # 5,987 of 6,000 left after a short chat without a cap.
    "groq": ChargeRule("cap", corrected=True, cached_input_counts=False, refused_count=True, failed_count=True),
    # Input and output (help.mistral.ai, API rate limits); x-ratelimit-tokens-query-cost tells the charge. When it is
    # taken is a judgement.
    "mistral": ChargeRule("none", corrected=True, cached_input_counts=True, refused_count=True, failed_count=True),
    # Free variants: every request counts (openrouter.ai/docs, free variant). Paid: money is held for input plus
    # max_tokens and settled after (notes).
    "openrouter": ChargeRule("cap", corrected=True, cached_input_counts=True, refused_count=True, failed_count=True),
    # Only requests under way (api-docs.deepseek.com/quick_start/rate_limit): a refused one holds no place.
    "deepseek": ChargeRule("none", corrected=True, cached_input_counts=True, refused_count=False, failed_count=False),
    # Limits follow successful use (docs.together.ai/docs/serverless/rate-limits); the rest is a judgement.
    "together": ChargeRule("none", corrected=True, cached_input_counts=True, refused_count=True, failed_count=False),
    # Prompt, cached prompt, completion and reasoning all count (docs.x.ai/developers/rate-limits). Refusals tell 65,605
    # used of 16,000: judged as counted afterwards, so that nothing is reserved.
    "xai": ChargeRule("none", corrected=True, cached_input_counts=True, refused_count=True, failed_count=True),
    # Calls only (docs.cohere.com/docs/rate-limits).
    "cohere": ChargeRule("none", corrected=True, cached_input_counts=True, refused_count=True, failed_count=True),
    # Input plus max_tokens at admission, corrected at the end; cache reads do not count
    # (docs.aws.amazon.com/bedrock/latest/userguide/quotas-token-burndown.html); for Claude from 3.7 a token of output
    # counts fivefold, which is left to learning. That refusals and failures count is a judgement.
    "bedrock": ChargeRule("cap", corrected=True, cached_input_counts=False, refused_count=True, failed_count=True),
    # Estimated input plus max_completion_tokens, or an estimate, at admission
    # (inference-docs.cerebras.ai/support/rate-limits); its engineers tell clients to lower the cap since it stays
    # taken. There is a limit for all tokens beside one for uncached ones: the former is meant here.
    "cerebras": ChargeRule("cap", corrected=False, cached_input_counts=True, refused_count=True, failed_count=True),
    # Prompt, uncached prompt and generated tokens (docs.fireworks.ai/serverless/rate-limits); counted as they flow is
    # a judgement.
    "fireworks": ChargeRule("none", corrected=True, cached_input_counts=False, refused_count=True, failed_count=True),
    "generic": ChargeRule(),
}
"""By dialect."""
