"""`app`: the proxy as an ASGI application: `uvicorn apikeyrouter_proxy.main:app`.

Importing this module reads nothing and starts nothing; settings and store are opened when the server starts.
"""

from __future__ import annotations

from apikeyrouter_proxy.app import create_app

__all__ = ["app"]

app = create_app()
