"""The contract that every extractor of a target has to keep."""
