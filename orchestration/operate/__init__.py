"""The write side: what an operator changes; each change is in the audit."""
