"""The tokens less than `stride` away, and those a multiple of it away (arXiv 1904.10509, section 4.2)."""


class StrataStrided:
    def __init__(self, part):
        self.stride = part["stride"]

    def allowed(self, query, key):
        apart = query - key
        return (apart.abs() < self.stride) | (apart % self.stride == 0)
