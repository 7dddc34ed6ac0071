"""The families of Transformers that have a counterpart here, one a file."""
