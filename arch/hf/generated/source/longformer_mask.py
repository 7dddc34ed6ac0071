"""A window, and the first tokens that see all and are seen by all (arXiv 2004.05150, section 3.1)."""


class StrataLongformer:
    def __init__(self, part):
        self.radius, self.first = part["radius"], part["global_tokens"]

    def allowed(self, query, key):
        return ((query - key).abs() <= self.radius) | (query < self.first) | (key < self.first)
