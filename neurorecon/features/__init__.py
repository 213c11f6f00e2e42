"""From stimuli to targets: one extractor a file, and the code that writes targets into a store."""
