"""PyTorch twins of the parts, one mechanism a file: text that `compose` puts together, never imported by Strata.

What a file needs of another it imports relatively; in the composed file the imported text stands above it. `PARTS`,
the kinds of a model by name, is written below all of it.
"""
