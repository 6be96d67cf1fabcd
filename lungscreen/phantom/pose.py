"""Anatomy → scan and back: repositioning (rigid) and breathing (smooth, largest at the diaphragm, none at the
spine).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lungscreen.phantom.config import Pose

__all__ = ["to_anatomy", "to_scan"]

APEX_MM, DOME_MM = 115.0, -100.0
"""Heights between which breathing grows from nothing to its full extent."""
SPINE_MM, FREE_MM = 75.0, 20.0
"""y between which the tissue goes from fixed at the spine to moving with the diaphragm."""
INVERSE_STEPS = 12
"""Fixed-point steps that invert the breathing: each shrinks the error at least fourfold."""

Points = NDArray[np.floating[Any]]


def to_scan(points: Points, pose: Pose) -> Points:
    """LPS mm (..., 3) of the anatomy → where they lie in the scan."""
    moved = np.array(points, dtype=np.float64)
    if pose == Pose():
        return moved
    moved[..., 2] += pose.breathing_mm * _weight(moved)
    return np.asarray(_times(moved, _rotation(pose)) + np.array(pose.shift_mm))


def to_anatomy(points: Points, pose: Pose) -> Points:
    """LPS mm (..., 3) of the scan → which place of the anatomy lies there; the inverse of `to_scan`."""
    if pose == Pose():
        return points
    moved = _times(np.asarray(points, dtype=np.float64) - np.array(pose.shift_mm), _rotation(pose).T)
    if pose.breathing_mm:
        place = moved.copy()
        for _ in range(INVERSE_STEPS):
            place[..., 2] = moved[..., 2] - pose.breathing_mm * _weight(place)
        return place
    return moved


def _weight(points: Points) -> Points:
    """How much of the breathing a place takes part in, 0 to 1; smooth."""
    return _smooth((APEX_MM - points[..., 2]) / (APEX_MM - DOME_MM)) * _smooth(
        (SPINE_MM - points[..., 1]) / (SPINE_MM - FREE_MM)
    )


def _smooth(t: Points) -> Points:
    t = np.clip(t, 0, 1)
    return np.asarray(t * t * (3 - 2 * t))


def _rotation(pose: Pose) -> Points:
    a, b, c = np.deg2rad(pose.rotation_deg)
    about_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    about_y = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    about_z = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    return np.asarray(about_z @ about_y @ about_x)


def _times(points: Points, matrix: Points) -> Points:
    """Every point turned; without BLAS, so that the last bit does not depend on how many threads there are."""
    x, y, z = points[..., 0], points[..., 1], points[..., 2]
    return np.stack([row[0] * x + row[1] * y + row[2] * z for row in matrix], axis=-1)
