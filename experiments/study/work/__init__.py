"""The cells of a study: tasks, executors, files."""
