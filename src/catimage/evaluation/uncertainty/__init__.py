"""Evaluation of the predictive spread, the standard deviation of labels around their predictions.

It consists of the coverage of prediction intervals and of risk-averse routing on the test split.
Section 5.6 of the CATImage paper names as a limitation that the method "does not explicitly account
for uncertainty arising from different noise variations".
"""
