"""The configuration: what may stand in it, and what follows from it; never a connection."""
