"""`python -m apikeyrouter_proxy.run`: the same as `apikeyrouter serve`."""

from __future__ import annotations

import sys

from apikeyrouter_proxy.cli import main

__all__: list[str] = []

if __name__ == "__main__":
    sys.exit(main(["serve", *sys.argv[1:]]))
