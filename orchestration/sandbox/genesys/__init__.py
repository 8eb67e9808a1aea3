"""One organisation's entities in memory, as Genesys Cloud shapes them."""
