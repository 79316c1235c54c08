"""Text that documentation writes where a secret belongs, which people copy and forget to replace.

Main entry: `is_placeholder`. Law: short names that people give on purpose to servers without keys ("dummy", "test",
"EMPTY", "not-needed") are no placeholders.
"""

from __future__ import annotations

import re

__all__ = ["is_placeholder"]

_PLACEHOLDER = re.compile(
    r"<.*>|.*(?:\.\.\.|…)|sk-x+|x+|\*+"
    r"|(?:sk-)?(?:your|my|insert|replace|enter|paste|add)[-_ ].*(?:key|token|secret|here).*"
    r"|change[-_ ]?me|todo|placeholder|none|null",
    re.IGNORECASE,
)


def is_placeholder(text: str) -> bool:
    """Whether the text is what documentation writes where a secret belongs: "sk-...", "your-api-key-here"."""
    return _PLACEHOLDER.fullmatch(text.strip()) is not None
