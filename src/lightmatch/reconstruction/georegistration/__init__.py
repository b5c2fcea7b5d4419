"""Where a model stands in the world: up, north, metres."""
