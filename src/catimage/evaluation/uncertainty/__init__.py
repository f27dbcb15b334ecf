"""The predictive spread on the test split: coverage of its intervals, and risk-averse routing.

CATImage names it as a limitation that it "does not explicitly account for uncertainty arising from
different noise variations" (5.6).
"""
