"""What else verified matches reveal before mapping: fisheye lenses, and points that stay in place in all photos."""
