"""Pure ASGI middleware of the proxy: each wraps an application and is one itself."""
