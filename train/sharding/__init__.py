"""How devices are laid out, and where the axes of arrays go on them."""
