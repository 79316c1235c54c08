"""See `app`."""

from apikeyrouter.muxer.documents import HeuristicRouter

__all__ = ["HeuristicRouter"]
