"""Norms over the model width."""
