"""The store: connection, embedded server, names and scripts; never what the names mean."""
