"""Speed, side by side with peers. Every number is a ratio of medians of alternating runs in one invocation."""
