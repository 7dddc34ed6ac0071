"""From hidden states to logits or vectors."""
