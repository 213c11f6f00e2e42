"""Ridge regression that takes up new sessions."""
