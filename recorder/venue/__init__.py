"""What the venue says and what it means: pure functions over bytes."""
