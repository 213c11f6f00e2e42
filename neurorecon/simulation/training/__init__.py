"""Train the bundled networks: ``python -m neurorecon.simulation.training NAME``."""
