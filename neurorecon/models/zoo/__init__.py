"""Reading files of weights."""
