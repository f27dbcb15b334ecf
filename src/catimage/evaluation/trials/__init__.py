"""CATImage's Table 1: how many images per training prompt an estimator needs."""
