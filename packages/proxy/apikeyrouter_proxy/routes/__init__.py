"""The routes that FastAPI serves: management API, models, health and metrics. The token path is not among them.

Main entry: `include_routes`. Access is decided before any of them runs, in `middleware.guard`.
"""

from __future__ import annotations

from fastapi import FastAPI

__all__ = ["include_routes"]


def include_routes(app: FastAPI) -> None:
    """Adds every route and the error answers."""
    from apikeyrouter_proxy.routes import (
        dashboard,
        errors,
        health,
        management_budgets,
        management_config,
        management_config_file,
        management_credentials,
        management_deployments,
        management_import,
        management_keys,
        management_model_routing,
        management_models,
        management_policies,
        management_prices,
        management_providers,
        management_quota,
        management_recent,
        management_spend,
        management_state,
        management_virtual_keys,
        management_webhooks,
        openai,
    )

    for module in (
        openai,
        management_keys,
        management_credentials,
        management_prices,
        management_providers,
        management_models,
        management_model_routing,
        management_recent,
        management_budgets,
        management_spend,
        management_virtual_keys,
        management_policies,
        management_deployments,
        management_webhooks,
        management_config,
        management_config_file,
        management_import,
        management_quota,
        management_state,
        dashboard,
        health,
    ):
        app.router.routes.extend(module.router.routes)  # including it would have each worked out, twice
    errors.install(app)
    app.router.redirect_slashes = False
