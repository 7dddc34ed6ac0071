"""Attention, softmax and other, and its masks."""
