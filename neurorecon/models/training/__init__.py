"""How the bundled networks were trained: ``python -m neurorecon.models.training NAME``."""
