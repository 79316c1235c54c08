"""The page of the management API works without any other server: its script and style come from the proxy itself."""

from __future__ import annotations

import re

from tests.support.processes import ProxyProcess


def test_the_page_loads_nothing_from_elsewhere(proxy_server: ProxyProcess) -> None:
    status, page = proxy_server.get("/docs")
    assert status == 200
    loaded = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert len(loaded) >= 3
    for url in loaded:
        assert url.startswith(proxy_server.origin)
        status, content = proxy_server.get(url.removeprefix(proxy_server.origin))
        assert status == 200
        assert content
    status, description = proxy_server.get("/api/v1/openapi.json")
    assert status == 200
    assert "/api/v1/keys" in description["paths"]
