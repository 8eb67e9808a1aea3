"""The servers: calls of the API, files at signed URLs, and the control API."""
