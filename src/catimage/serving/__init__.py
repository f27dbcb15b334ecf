"""The service: the HTTP interface, decisions under a live budget, queues, and the generators."""
