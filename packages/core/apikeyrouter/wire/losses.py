"""What a translation cannot carry: refused by name before anything is sent, or left out and reported.

`Losses` goes through reading and writing of one request. Wishes (`seed`, `logit_bias`) may be dropped where the caller
or the operator said so (`drop_params`); content and tools never, since the reply would answer something else.
"""

from __future__ import annotations

__all__ = ["Losses", "UntranslatableError", "shown"]

_NAME_CHARACTERS_MAX = 100
_NAMES_MAX = 50
_FAULT_CHARACTERS_MAX = 400
_FAULTS_MAX = 20
"""What is told names members that clients wrote, and stands in headers, logs and decisions: so it is bounded."""


class UntranslatableError(ValueError):
    """A request says what the provider's format cannot say. `faults`: a sentence each, by the members that the caller
    wrote, such as "tools[0]: web_search is run by OpenAI itself". The message names them all."""

    def __init__(self, target: str, faults: list[str]) -> None:
        self.faults = faults
        super().__init__(
            f"The request cannot be put into the format of this provider ({target}): {'; '.join(faults)}. "
            "Leave that out, choose a model of a provider that can do it, or, for mere parameters, send the header "
            "'x-akr-drop-params: true'."
        )


class Losses:
    """Collects what gets lost on the way into `target`, a format's name.

    `dropped`: names of parameters that were left out, in order, once each: printable ASCII, at most 100 characters a
    name, and 50 names. `check` raises for what may not be left out.
    """

    __slots__ = ("_faults", "_may_drop", "_target", "dropped")

    def __init__(self, target: str, *, may_drop: bool) -> None:
        self._target = target
        self._may_drop = may_drop
        self._faults: list[str] = []
        self.dropped: list[str] = []

    def parameter(self, name: str, why: str) -> None:
        """A wish that cannot be passed on: `name` as the caller wrote it, `why` as half a sentence."""
        if not self._may_drop:
            self._fault(name, why)
        else:
            self.harmless(name)

    def content(self, name: str, why: str) -> None:
        """Something without which the reply would be to another question; never dropped."""
        self._fault(name, why)

    def harmless(self, name: str) -> None:
        """Something whose absence changes no reply (telemetry, cache hints): left out and reported, never refused."""
        if len(name) > _NAME_CHARACTERS_MAX or not (name.isascii() and name.isprintable()):
            name = _shown(name, _NAME_CHARACTERS_MAX)
        if name not in self.dropped and len(self.dropped) < _NAMES_MAX:
            self.dropped.append(name)

    def _fault(self, name: str, why: str) -> None:
        if len(self._faults) < _FAULTS_MAX:
            told = f"{name}: {why}"
            if len(told) > _FAULT_CHARACTERS_MAX or not told.isprintable():
                told = f"{_shown(name, _NAME_CHARACTERS_MAX)}: {_shown(why, _FAULT_CHARACTERS_MAX)}"
            self._faults.append(told)

    def check(self) -> None:
        """Raises UntranslatableError if anything may not be lost."""
        if self._faults:
            raise UntranslatableError(self._target, self._faults)


def shown(value: object) -> str:
    """A value that a client wrote, for a sentence: as a literal, cut to 100 characters; of lists and objects only what
    they are, since they may be deeper than a literal of them can be made."""
    if isinstance(value, str):
        return f"'{_shown(value, _NAME_CHARACTERS_MAX)}'"
    return "a list" if isinstance(value, list) else "an object" if isinstance(value, dict) else repr(value)


def _shown(text: str, characters_max: int) -> str:
    """The text as a literal may show it: escapes for what is not printable ASCII, and cut to so many characters."""
    shown = text[:characters_max].encode("ascii", "backslashreplace").decode("ascii")
    shown = "".join(one if one.isprintable() else f"\\x{ord(one):02x}" for one in shown)
    fits = len(text) <= characters_max and len(shown) <= characters_max
    return shown if fits else shown[: characters_max - 3] + "..."
