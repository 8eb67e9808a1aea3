"""Limits, the meters that count them, and the headers that tell of them."""
