"""A token sees the tokens at most `radius` away on either side (arXiv 2004.05150)."""


class StrataLocalWindow:
    def __init__(self, part):
        self.radius = part["radius"]

    def allowed(self, query, key):
        return (query - key).abs() <= self.radius
