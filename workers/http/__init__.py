"""One request over one connection that was opened before; never a retry or a redirect."""
