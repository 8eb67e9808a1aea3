"""The record of every request, and its totals."""
