"""The matchers: features of two images in, matches out."""
