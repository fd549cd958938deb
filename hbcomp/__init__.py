"""hbcomp: a competition toolkit for one-dimensional signals."""

__version__ = "0.1.0"
