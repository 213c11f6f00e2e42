"""The command line: one file per command, which parses options and calls the package."""
