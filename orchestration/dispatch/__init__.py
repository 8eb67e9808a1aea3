"""What runs in every worker beside the pool: it rings, publishes and opens pages."""
