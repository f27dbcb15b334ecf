"""Training of the embedded pool (docs/tiny-pool.md) with ``make weights``; not in the wheel."""
