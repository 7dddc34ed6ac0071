"""Trained runs as folders of Hugging Face, and such folders as runs: the verbs `export` and `import`."""
