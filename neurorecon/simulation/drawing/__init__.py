"""Drawing: from the description of a scene to an image."""
