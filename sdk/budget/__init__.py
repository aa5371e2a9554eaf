"""Keeping to a budget: what the app asks for, the controller, and the estimates it goes by."""

from sdk.budget.budget import Budget, BudgetError

__all__ = ["Budget", "BudgetError"]
