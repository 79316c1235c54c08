"""Money: what replies used, what that costs, what a request may cost, and the budgets that bound it."""
