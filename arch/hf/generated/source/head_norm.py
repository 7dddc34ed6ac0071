"""The norm of queries or keys [B, T, N, K]: of each head (arXiv 2302.05442), or of all together."""

from .core import make


def head_norm(part, heads, head_dim, depth):
    if part is None:
        return None
    return make(part, heads * head_dim if part["kind"] == "AcrossHeads" else head_dim, depth)
