"""The embedded data set: rendered scenes, a simulated visual cortex, and the training of the bundled networks."""
