"""How bells travel: a kombu transport and a consumer that survive the broker; never the work."""
