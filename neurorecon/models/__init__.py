"""Networks, how they are loaded from weights, and the bundled weights."""
