"""The experiments of the papers (YAML), and the demonstration of the operations."""
