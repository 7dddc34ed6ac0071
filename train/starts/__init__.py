"""What a run begins with or reads besides its data: other runs, arrays, frozen models."""
