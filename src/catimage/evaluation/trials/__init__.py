"""The number of images per training prompt that an estimator needs (CATImage paper, Table 1)."""
