"""What two masks both allow."""

from .core import make


class StrataBoth:
    def __init__(self, part):
        self.first, self.second = make(part["first"]), make(part["second"])

    def allowed(self, query, key):
        return self.first.allowed(query, key) & self.second.allowed(query, key)
