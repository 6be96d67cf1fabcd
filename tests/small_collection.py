"""Annotated data as the detector's training reads them, made up: eight cubes, three scans with a ball each."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
from small_chest import chest

__all__ = ["RECIPE_TEXT", "SPACING_MM", "ball", "ball_mm", "write_collection", "write_dicom", "write_table"]

CT = "1.2.840.10008.5.1.4.1.1.2"
SPACING_MM = (2.5, 2.4, 2.2)
RECIPE_TEXT = (
    'device = "cpu"\n[split]\ntrain_subsets = ["2"]\nchoice_subsets = ["9"]\nscans = ["first", "second", "third"]\n'
    'held_out_scans = ["second"]\n[architecture]\nchannels = [4, 6]\nblocks = [1, 1]\nhead = 4\n'
    "[schedule]\nsteps = 4\nbatch = 2\nwarmup = 1\ndecay = 2\nmine_every = 2\nmeasure_every = 4\nsave_every = 2\n"
    "[samples]\npatch = 32\n[pretraining]\nsteps = 2\nbatch = 2\n"
)


def ball(shape: tuple[int, ...], centre: tuple[float, ...], radius: float) -> np.ndarray:
    axes = np.ogrid[tuple(slice(0, n) for n in shape)]
    return sum((a - c) ** 2 for a, c in zip(axes, centre, strict=True)) < radius**2


def ball_mm(shape: tuple[int, ...], centre: tuple[float, ...], radius: float) -> np.ndarray:
    """The same on the scans' grid, its radius in mm."""
    axes = np.ogrid[tuple(slice(0, n) for n in shape)]
    return sum(((a - c) * s) ** 2 for a, c, s in zip(axes, centre, SPACING_MM, strict=True)) < radius**2


def write_dicom(
    folder: Path, uid: str, hu: np.ndarray, spacing: tuple[float, float, float], origin: tuple[float, float, float]
) -> None:
    """One axial series, its files in no order."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian

    folder.mkdir(parents=True)
    for k, plane in enumerate(hu):
        ds = Dataset()
        ds.file_meta = FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID = CT
        ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID = f"{uid}.{k + 1}"
        ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.FrameOfReferenceUID = f"{uid}.0", uid, f"{uid}.9"
        ds.Modality, ds.PatientID, ds.PatientName, ds.ConvolutionKernel = "CT", uid, "", "STANDARD"
        ds.SeriesNumber, ds.InstanceNumber, ds.SliceThickness, ds.KVP = 1, k + 1, spacing[0], 120
        ds.Rows, ds.Columns = plane.shape
        ds.PixelSpacing = list(spacing[1:])
        ds.ImagePositionPatient = [origin[0], origin[1], origin[2] + k * spacing[0]]
        ds.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        ds.RescaleSlope, ds.RescaleIntercept = 1, -1024
        ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
        ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
        ds.PixelData = (plane + 1024).astype("<u2").tobytes()
        ds.save_as(folder / f"{(k * 7) % len(hu):03}.dcm", enforce_file_format=True)


def write_table(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def write_collection(root: Path) -> Path:
    """The layout of the annotated data: eight cubes of three subsets, three scans with a ball each."""
    import jpeg_ls

    rng = np.random.default_rng(0)
    cubes, others, masks = [], [], {}
    (root / "cubes" / "ct").mkdir(parents=True)
    for n in range(8):
        hu = rng.normal(-850, 30, (50, 50, 50))
        mask = ball((50, 50, 50), (25, 25, 25), 3 + n % 4)
        hu[mask] = 100
        if n == 2:
            hu[ball(hu.shape, (40, 40, 40), 3.5)] = 100
        code = (np.clip(hu, -1000, 2000) + 1024).astype(np.uint16).reshape(2500, 50)
        (root / "cubes" / "ct" / f"c{n}.jls").write_bytes(bytes(jpeg_ls.encode(code)))
        masks[f"c{n}"] = np.packbits(mask)
        row = {
            "cube": f"c{n}", "series_uid": f"s{n}", "patient_id": f"p{n}", "luna16_subset": "9" if n > 5 else "2",
            "placed": "no" if n == 3 else "yes", "nodule_z": 25, "nodule_y": 25, "nodule_x": 25,
            "diameter_mm": 2 * (3 + n % 4), "texture": "1" if n == 1 else "",
        }  # fmt: skip
        cubes.append(row)
    others.append({"cube": "c0", "kind": "excluded", "z": 8, "y": 9, "x": 10, "diameter_mm": -1})
    others.append({"cube": "c2", "kind": "nodule", "z": 40, "y": 40, "x": 40, "diameter_mm": 6})
    write_table(root / "cubes" / "cubes.csv", cubes)
    write_table(root / "cubes" / "others.csv", others)
    np.savez(root / "cubes" / "masks.npz", **masks)
    scans, lesions = [], []
    for n, name in enumerate(("first", "second", "third")):
        hu = chest().astype(float)
        hu[ball_mm(hu.shape, (30, 24, 20), 5)] = 100
        origin = (-50.0, 10.0 * n, 300.0)
        write_dicom(root / "scans" / name, f"1.2.3.{n + 1}", hu + rng.normal(0, 20, hu.shape), SPACING_MM, origin)
        scans.append(
            {"folder": f"scans/{name}", "series_uid": f"1.2.3.{n + 1}",
            "original_series_uid": "s4" if n == 1 else f"o{n}",
             "licence": "CC BY", "annotation": "LUNA16" if n < 2 else "lesions may exist"}
        )  # fmt: skip
        x, y, z = (o + k * s for o, k, s in zip(origin, (20, 24, 30), SPACING_MM[::-1], strict=True))
        lesions.append({"series_uid": f"1.2.3.{n + 1}", "x_mm": x, "y_mm": y, "z_mm": z, "diameter_mm": 10})
    write_table(root / "scans.csv", scans)
    write_table(root / "lesions.csv", lesions)
    row = {"seriesuid": "o0", "coordX": 68, "coordY": 60, "coordZ": 380, "diameter_mm": 4}
    write_table(root / "tables" / "excluded.csv", [row])
    return root
