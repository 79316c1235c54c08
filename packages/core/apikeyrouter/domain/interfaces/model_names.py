"""What models are called: the port through which routing asks about names.

`NoNames` knows nothing, so that routing works without a catalogue; `infrastructure.catalogue.models.ModelCatalogue`
knows families, other names and hosts. Laws: pure and cheap, except `advice`, which is for failures only.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

__all__ = ["ModelNames", "NoNames"]


class ModelNames(Protocol):
    """Names of models and providers, as people write them."""

    def provider_meant(self, prefix: str, registered: Collection[str]) -> str | None:
        """The registered provider that `prefix` in `prefix/model` stands for ("together_ai" -> "together"), or None."""
        ...

    def name_at(self, provider_id: str, model: str) -> str:
        """What the provider calls the model; the name as it is where nothing else is known."""
        ...

    def makers_of(self, model: str) -> str | None:
        """The provider that the name alone implies, or None."""
        ...

    def advice(self, model: str, registered: Collection[str]) -> str:
        """A sentence for whoever asked for a model that nobody serves: the nearest known names, who sells it, its end
        of life. "" when nothing helps."""
        ...


class NoNames:
    """See `ModelNames`: takes every name as it is."""

    def provider_meant(self, prefix: str, registered: Collection[str]) -> str | None:
        """The prefix itself, if it is registered."""
        return prefix if prefix in registered else None

    def name_at(self, provider_id: str, model: str) -> str:  # noqa: ARG002 - a port
        """The name."""
        return model

    def makers_of(self, model: str) -> str | None:  # noqa: ARG002
        """None."""
        return None

    def advice(self, model: str, registered: Collection[str]) -> str:  # noqa: ARG002
        """Nothing."""
        return ""
