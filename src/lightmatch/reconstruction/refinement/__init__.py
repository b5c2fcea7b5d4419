"""A first model → a denser and truer one; photos placed against a model."""
