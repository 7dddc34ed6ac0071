"""Code of its own for a model that no class of Transformers fits: PyTorch twins of its parts, and only of those."""
