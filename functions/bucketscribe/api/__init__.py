"""The HTTP API: FastAPI routes that read a request, call the domain and write the answer."""
