"""Words: deterministic text from a digest, and a token count that is simple, exact and the same everywhere here.

Main entry: `compose`. A token is a run of up to 12 characters with the white space before it, so the tokens of a text
joined are the text; prompts are counted as a quarter of their characters, which is the estimate OpenAI admits by.
Law: equal digest and prompt, equal text.
"""

from __future__ import annotations

import re
from hashlib import blake2b

__all__ = ["Digest", "compose", "digest_of", "estimate_tokens", "tokens_of"]

Digest = bytes

_TOKEN = re.compile(r"\s*\S{1,12}")
_QUOTE_MAX_CHARS = 48
_SENTENCES = tuple(
    sentence.split(" ")
    for sentence in (
        "It is the usual answer, and most people find it good enough.",
        "The details depend on what you measure and when you look.",
        "Three things matter here: the size, the order and the price.",
        "A short walk along the river would settle the question.",
        "Nothing in the records speaks against it.",
        "The second half follows from the first without further work.",
        "You may want to try a smaller example before the large one.",
        "In the north it is colder, in the south it rains more often.",
        "The figures agree with what was written down last year.",
        "Some would say otherwise, yet their reasons are thin.",
        "It begins with a plan and ends with a list.",
        "Copper, tin and a little patience are all that is needed.",
        "The map is old, but the roads have not moved.",
        "Half of it is known, the rest can be looked up.",
        "A careful reader will notice the gap between the two.",
        "There is room for doubt, though not for much of it.",
    )
)


def digest_of(seed: int, *parts: str | bytes) -> Digest:
    """16 bytes that stand for a seed and texts, told apart by their order and borders."""
    state = blake2b(digest_size=16)
    state.update(b"%d" % seed)
    for part in parts:
        raw = part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part
        state.update(b"\x00%d\x00" % len(raw))
        state.update(raw)
    return state.digest()


def compose(digest: Digest, prompt: str, least_tokens: int, most_tokens: int) -> str:
    """A reply to `prompt`: it quotes the prompt's beginning and goes on for a number of tokens within the bounds."""
    target = least_tokens + int.from_bytes(digest[:4], "big") % (most_tokens - least_tokens + 1)
    quote = " ".join(prompt[: _QUOTE_MAX_CHARS * 2].split())[:_QUOTE_MAX_CHARS].strip()
    words = f'Simulated answer to "{quote}":'.split(" ")
    at = 4
    while len(words) < target:
        words += _SENTENCES[digest[at % 16] % len(_SENTENCES)]
        at += 1
        if at % 16 == 0:  # the digest is used up: stretch it
            digest = blake2b(digest, digest_size=16).digest()
    text = " ".join(words)
    if len(words) == target:
        return text
    return "".join(tokens_of(text)[:target])


def tokens_of(text: str) -> list[str]:
    """The tokens of a text. White space at its very end belongs to none and is lost."""
    return _TOKEN.findall(text)


def estimate_tokens(chars: int) -> int:
    """Tokens that a prompt of so many characters counts."""
    return (chars + 3) // 4
