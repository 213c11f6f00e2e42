"""Networks as decoders: what trains them, and a perceptron."""
