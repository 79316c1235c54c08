"""What the models behind Converse take beyond its common members, by their makers.

Main entry: `makers_model`. Model ids are `[region.]maker.model`, ARNs hold one; an application's inference profile
names no model: such a one is taken for a model of which nothing is known, and refused nothing.
Sources: https://docs.aws.amazon.com/bedrock/latest/userguide/structured-output.html (Claude from 4.5,
open models; not Nova, Llama, Command, Jamba), https://docs.aws.amazon.com/nova/latest/nova2-userguide/
using-converse-api.html (`reasoningConfig`), recorded requests that were accepted (`top_k` of Claude,
`inferenceConfig.topK` of Nova, `reasoning_config` of Qwen). `reasoning_effort` of gpt-oss is OpenAI's own name for it.
"""

from __future__ import annotations

import re
from functools import lru_cache

import msgspec

from apikeyrouter.wire.messages.models import Claude, claude

__all__ = ["MAKERS", "Model", "makers_model"]

MAKERS = (
    "ai21", "amazon", "anthropic", "cohere", "deepseek", "google", "luma", "meta", "minimax", "mistral", "moonshot",
    "moonshotai", "nvidia", "openai", "qwen", "stability", "twelvelabs", "writer", "xai", "zai",
)  # fmt: skip
_ID = re.compile(rf"(?:^|[./])({'|'.join(MAKERS)})\.([a-z0-9][\w.:-]*)")
_UNSHAPED = frozenset(("ai21", "amazon", "cohere", "meta", "writer"))


class Model(msgspec.Struct, frozen=True, gc=False):
    """`maker`: "" when the name tells none. `claude`: its facts, if it is one. `shapes`: it takes JSON schemas for its
    replies and strict tools."""

    maker: str
    name: str
    claude: Claude | None
    shapes: bool

    @property
    def nova(self) -> bool:
        """Whether it is one of Amazon's Nova."""
        return self.maker == "amazon" and self.name.startswith("nova")

    @property
    def nova_thinks(self) -> bool:
        """Whether it is a Nova of the second generation, which reasons."""
        return self.nova and self.name.startswith("nova-2")


@lru_cache(maxsize=1024)
def makers_model(model: str) -> Model:
    """The facts of a model by its id or ARN."""
    found = _ID.search(model.lower())
    maker, name = (found.group(1), found.group(2)) if found else ("", "")
    facts = claude(model) if maker == "anthropic" or (not maker and "claude" in model.lower()) else None
    return Model(maker, name, facts, facts.shapes if facts is not None else maker not in _UNSHAPED)
