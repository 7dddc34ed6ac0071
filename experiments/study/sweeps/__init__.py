"""Points of a sweep, learning rates among them."""
