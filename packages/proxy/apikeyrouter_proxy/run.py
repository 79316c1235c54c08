"""`python -m apikeyrouter_proxy.run`: the same as `apikeyrouter serve`."""

from __future__ import annotations

from apikeyrouter_proxy.serving import serve

__all__: list[str] = []

if __name__ == "__main__":
    serve()
