"""What a run leaves in its folder: checkpoints, metrics, who holds it, what was trained."""
