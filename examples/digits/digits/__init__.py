"""A small network that learns to read handwritten digits."""
