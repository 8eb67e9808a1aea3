"""Which call is hit by which fault, and how its answer is broken."""
