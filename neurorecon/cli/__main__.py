"""``python -m neurorecon.cli``: the same as ``neurorecon``."""

from neurorecon.cli.main import run

if __name__ == "__main__":
    run()
