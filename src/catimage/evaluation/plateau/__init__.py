"""Evaluation of the plateau rule, which chooses the number of denoising steps of one generator.

See section 4 of the BudgetFusion paper.
"""
