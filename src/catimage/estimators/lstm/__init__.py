"""The LSTM estimator of BudgetFusion: quality as a series over denoising steps."""
