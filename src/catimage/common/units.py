"""The units of costs."""

from __future__ import annotations

COST_UNITS = ("tflops", "seconds", "usd", "wh")
"""The units in which costs are counted, measured or given."""
ANY_UNIT = "unit"
"""The unit of imported costs in any other unit, and of candidates without known costs."""
