"""The embedded world: rendered scenes, a simulated brain that looks at them, and training of the bundled networks."""
