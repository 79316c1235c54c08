"""What was read from prompts that come again: retries, and agents whose tool calls follow one turn of a user.

Main entry: `PromptMemory.read`. Laws: the same prompt and predictor give the same result, remembered or not; prompts
themselves are not kept, only a 64-bit hash of each; the newest `PROMPTS_MAX` are.
"""

from __future__ import annotations

from apikeyrouter.muxer.difficulty import DifficultyPredictor
from apikeyrouter.muxer.tasks import PromptReading, read_prompt

__all__ = ["PROMPTS_MAX", "PromptMemory"]

PROMPTS_MAX = 4_096


class PromptMemory:
    """Readings and gains by prompt."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, int, int], tuple[PromptReading, float | None]] = {}

    def read(self, text: str, predictor: DifficultyPredictor | None) -> tuple[PromptReading, float | None]:
        """What the text is like, and the gain that `predictor` foresees; None without one."""
        key = (hash(text), len(text), id(predictor))
        found = self._known.get(key)
        if found is None:
            if len(self._known) >= PROMPTS_MAX:
                del self._known[next(iter(self._known))]
            found = (read_prompt(text), None if predictor is None else predictor.strong_gain(text))
            self._known[key] = found
        return found
