"""The credentials that calls carry, and one refresh for the whole fleet; never a call of a job."""
