"""The LSTM estimator (BudgetFusion paper, section 3.3) of the quality at each number of steps."""
