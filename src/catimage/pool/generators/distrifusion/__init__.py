"""DistriFusion: displaced patch parallelism (Li et al. 2024) in a separate environment."""
