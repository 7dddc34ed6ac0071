"""From what was claimed and measured to verdicts."""
