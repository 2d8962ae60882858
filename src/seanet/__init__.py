"""Instance segmentation whose masks keep their boundaries."""

__version__ = "0.1.0"
