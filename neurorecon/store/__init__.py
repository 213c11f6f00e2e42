"""The feature store: schema, reading, writing, checking."""
