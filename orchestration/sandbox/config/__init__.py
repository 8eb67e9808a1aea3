"""What the sandbox does, as one value."""
