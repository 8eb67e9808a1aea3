"""From a file to rows: one reader a kind; never the store."""
