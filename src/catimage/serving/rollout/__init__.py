"""Changes of the router without a restart: publication, and the replicas that follow it."""
