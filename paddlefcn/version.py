"""The version, apart from the package's front door, so that what stands behind it can name it."""

__version__ = "0.1.0"
