"""The HTTP interface of the router process: OpenAI's image API and the routes of CATImage."""
