"""When a call may leave and what a settled call leads to; never what the call says."""
