"""A finished model → depth of every pixel → a dense cloud."""
