"""Other people's weights: a MONAI bundle's RetinaNet as a detector. Needs `lungscreen[monai]` once it is to look."""

from lungscreen.detect.bundle.config import Bundle, find_bundle, read_bundle
from lungscreen.detect.bundle.load import load_bundle

__all__ = ["Bundle", "find_bundle", "load_bundle", "read_bundle"]
