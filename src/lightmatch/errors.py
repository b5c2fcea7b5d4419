"""Every error a caller can cause: one clear sentence, what was expected, what came, what to do.

The command line prints the sentence and exits with 1; a traceback means a bug of ours.
"""


class LightmatchError(Exception):
    """Base of all errors raised on purpose."""


class InvalidValueError(LightmatchError, ValueError):
    """A value breaks its contract (shape, dtype, range)."""


class ImageReadError(LightmatchError, OSError):
    """A photo cannot be read: missing, truncated, empty, not an image, or over the pixel limit."""


class FeatureMismatchError(LightmatchError, ValueError):
    """Features were given to a matcher that was made for another kind."""


class WeightsError(LightmatchError):
    """A checkpoint is missing, damaged, or does not fit the network."""


class ReconstructionError(LightmatchError):
    """No 3D model can be made from the photos given."""


class MissingDependencyError(LightmatchError, ImportError):
    """An optional library is needed for what was asked."""
