"""A proxy whose requests left their models to it, for the documentation's picture of the page Model choice.

Main entry: `proxy_that_chose`. Its prompts are easy and hard ones in turns, and some answers get a mark.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.browser.conftest import ADMIN, ADMIN_KEY
from tests.support.processes import ProxyProcess, proxy_process
from tests.support.sim import sim_process

__all__ = ["GROUPS", "proxy_that_chose"]

GROUPS = [
    {"name": "default", "models": ["openai/gpt-4o-mini", "openai/gpt-4.1"], "strong_share": 0.3},
    {
        "name": "support",
        "models": ["openai/gpt-4.1-nano", "openai/gpt-4o-mini", "openai/gpt-4o"],
        "strategy": "cascade",
        "target_quality": 0.8,
    },
    {
        "name": "watched",
        "models": ["openai/gpt-4o-mini", "openai/gpt-4o"],
        "reference": "openai/gpt-4o",
        "shadow": True,
    },
]
TEXTS = (
    "Hello!",
    "Translate 'invoice' into German.",
    "Which of these reviews are angry, and about what? Answer as a list.",
    "What is the capital of Peru?",
    "Prove that there are infinitely many primes, and that the sum of their reciprocals diverges.",
    "Write a function that finds the longest common subsequence of two strings, and explain its complexity.",
    "A train leaves at 9:40 with 80 km/h, another one at 10:05 with 120 km/h. When does it catch up? Show each step.",
)
REQUESTS, MARKED, LIKED = 800, 0.12, 0.85
MODELS, WEIGHTS = ("auto", "auto/support", "gpt-4o"), (70, 20, 10)


@contextmanager
def proxy_that_chose(folder: Path) -> Iterator[ProxyProcess]:
    """A proxy after its work."""
    chance = random.Random(4)
    env = {"APIKEYROUTER_ADMIN_KEY": ADMIN_KEY, "APIKEYROUTER_MODEL_GROUPS": json.dumps(GROUPS)}
    with sim_process() as sim, proxy_process(sim, folder, env=env) as proxy:
        for number in range(REQUESTS):
            (model,) = chance.choices(MODELS, WEIGHTS)
            content = f"{chance.choice(TEXTS)} ({number})"
            body = {"model": model, "max_tokens": 60, "messages": [{"role": "user", "content": content}]}
            status, told, headers = proxy.ask("POST", "/v1/chat/completions", body, ADMIN)
            assert status == 200, told
            if model.startswith("auto") and chance.random() < MARKED:
                thumb = "up" if chance.random() < LIKED else "down"
                proxy.ask("POST", "/api/v1/feedback", {"request_id": headers["x-request-id"], "thumb": thumb}, ADMIN)
        yield proxy
