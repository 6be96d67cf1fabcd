"""Synthetic lungs among the detector's scans."""

from pathlib import Path

import numpy as np

from lungscreen.training.detector.blocks import SampleConfig
from lungscreen.training.detector.data import load_scan
from lungscreen.training.detector.phantoms import phantom_name, prepare_phantoms
from lungscreen.training.detector.samples import SYNTHETIC, SampleEngine


def test_a_phantom_is_a_scan_without_nodules_at_one_millimetre(tmp_path: Path) -> None:
    """Its lungs are where its air is, and every patch of it says that there is nothing."""
    prepare_phantoms(tmp_path, [3], "tiny")
    scan = load_scan(tmp_path, phantom_name(3))
    assert scan.licence == SYNTHETIC
    assert scan.sure
    assert not scan.lesions
    assert np.allclose(np.linalg.norm(scan.affine[:3, :3], axis=0), 1.0)
    assert 1.5 < scan.lung.sum() / 1e6 < 9
    assert -900 < scan.hu[scan.lung].mean() < -650
    assert np.median(scan.hu[~scan.lung]) > -200
    before = (tmp_path / f"{phantom_name(3)}.npz").stat().st_mtime_ns
    prepare_phantoms(tmp_path, [3], "tiny")
    assert (tmp_path / f"{phantom_name(3)}.npz").stat().st_mtime_ns == before
    nothing = np.zeros((0, 15625), np.uint8)
    engine = SampleEngine(SampleConfig(insert=0.0, decoy=0.0), nothing.astype(np.int16), nothing, [], [scan], seed=0)
    _, target = engine.sample(np.random.default_rng(0), cube=False)
    assert target[0].max() == 0
