"""Business transactions, and what people touch."""
