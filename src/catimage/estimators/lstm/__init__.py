"""BudgetFusion's LSTM over numbers of steps (section 3.3)."""
