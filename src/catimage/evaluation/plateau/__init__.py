"""BudgetFusion's evaluation (section 4) of the plateau rule on the steps of one generator."""
