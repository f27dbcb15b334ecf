"""The eight stages, one module per stage. A stage reads tables, computes, and writes its output."""
