"""MLflow: runs, registered routers, their aliases, and the promotion gate."""
