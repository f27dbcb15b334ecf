"""MLflow: registered routers, aliases and the promotion gate."""
