"""Hugging Face, in and out: a spec and its parameters as a folder that Transformers opens, and back.

`plan` (arch.hf.tiers) finds how a model is written, `write` (arch.hf.folder) writes it, `read` reads one.
"""
