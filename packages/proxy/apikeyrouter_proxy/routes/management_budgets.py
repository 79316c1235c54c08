"""Management API: budgets. Amounts are US dollars, as text in answers, so that no digit is lost."""

from __future__ import annotations

from decimal import Decimal

from fastapi import APIRouter, Request, Response
from pydantic import Field

from apikeyrouter.domain.models.budget import Budget, BudgetScope, EnforcementMode, TimeWindow
from apikeyrouter_proxy.routes.common import Body, Page, RunningProxy, page_of

__all__ = ["router"]

router = APIRouter(prefix="/api/v1/budgets", tags=["budgets"])


class BudgetView(Budget):
    """A budget and what is left of it. `remaining`: limit - spent - held. `used_ratio`: spent over limit."""

    remaining: Decimal
    used_ratio: float


class NewBudget(Body):
    """A budget to create."""

    scope: BudgetScope = BudgetScope.Global
    scope_id: str | None = Field(None, description="Provider id, key id or model; absent for a global budget.")
    limit: Decimal = Field(gt=0, description="US dollars per period.")
    period: TimeWindow = TimeWindow.Daily
    enforcement_mode: EnforcementMode = EnforcementMode.Hard


class BudgetChange(Body):
    """What to change; absent fields stay."""

    limit: Decimal | None = Field(None, gt=0)
    enforcement_mode: EnforcementMode | None = None


@router.get("", summary="List budgets")
async def list_budgets(
    proxy: RunningProxy, scope: BudgetScope | None = None, scope_id: str | None = None
) -> Page[BudgetView]:
    """Every budget as it stands now, oldest first."""
    return page_of([_view(budget) for budget in await proxy.router.cost_controller.list_budgets(scope, scope_id)])


@router.post("", status_code=201, summary="Create a budget")
async def create_budget(proxy: RunningProxy, request: Request, body: NewBudget) -> BudgetView:
    """Creates a budget; it holds for every request from now on."""
    budget = await proxy.router.cost_controller.create_budget(
        scope=body.scope,
        limit=body.limit,
        period=body.period,
        scope_id=body.scope_id,
        enforcement_mode=body.enforcement_mode,
    )
    facts = {"scope": budget.scope.value, "scope_id": budget.scope_id, "limit": str(budget.limit_amount)}
    proxy.audit.write(request, "budget.created", budget.id, **facts)
    return _view(budget)


@router.get("/{budget_id}", summary="Show a budget")
async def show_budget(proxy: RunningProxy, budget_id: str) -> BudgetView:
    """One budget as it stands now."""
    return _view(await proxy.router.cost_controller.get_budget(budget_id))


@router.patch("/{budget_id}", summary="Change a budget")
async def change_budget(proxy: RunningProxy, request: Request, budget_id: str, body: BudgetChange) -> BudgetView:
    """Changes limit or enforcement; what was spent stays spent."""
    before = await proxy.router.cost_controller.get_budget(budget_id)
    budget = await proxy.router.cost_controller.update_budget(
        budget_id, limit=body.limit, enforcement_mode=body.enforcement_mode
    )
    proxy.audit.write(
        request, "budget.changed", budget_id, limit_before=str(before.limit_amount), limit=str(budget.limit_amount)
    )
    return _view(budget)


@router.delete("/{budget_id}", status_code=204, summary="Delete a budget")
async def delete_budget(proxy: RunningProxy, request: Request, budget_id: str) -> Response:
    """Removes a budget; nothing limits what it limited."""
    await proxy.router.cost_controller.delete_budget(budget_id)
    proxy.audit.write(request, "budget.deleted", budget_id)
    return Response(status_code=204)


def _view(budget: Budget) -> BudgetView:
    return BudgetView(
        **budget.model_dump(), remaining=budget.remaining_budget, used_ratio=round(budget.utilization_ratio, 6)
    )
