"""Detect: where a nodule may be."""

from lungscreen.detect.stage import DetectConfig, Detector, Marks, detect_nodules, find_detector, load_detector

__all__ = ["DetectConfig", "Detector", "Marks", "detect_nodules", "find_detector", "load_detector"]
