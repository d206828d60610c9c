"""The version of the package, apart so that packaging reads it without importing Keras."""

__version__ = "0.1.0"
