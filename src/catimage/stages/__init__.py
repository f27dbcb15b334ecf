"""The eight stages, one module each (read tables, call the core, write tables), and the imports
that stand in for the first ones.
"""
