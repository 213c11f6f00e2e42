"""Ridge regression for several subjects."""
