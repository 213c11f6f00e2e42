"""The contract that every decoder has to keep."""
