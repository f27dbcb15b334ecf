"""A client of the service, ``catimage.Client``. It needs httpx, and neither torch nor BentoML."""
