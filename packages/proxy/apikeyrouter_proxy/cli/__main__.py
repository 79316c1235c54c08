"""`python -m apikeyrouter_proxy.cli`: the same as the command `apikeyrouter`."""

from __future__ import annotations

import sys

from apikeyrouter_proxy.cli import main

if __name__ == "__main__":
    sys.exit(main())
