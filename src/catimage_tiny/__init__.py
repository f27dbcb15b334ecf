"""Training of the embedded pool (`make weights`); not part of the wheel."""
