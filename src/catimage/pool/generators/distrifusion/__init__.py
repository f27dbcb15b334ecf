"""DistriFusion's displaced patch parallelism (Li et al. 2024), in an environment and a process of
its own.
"""
