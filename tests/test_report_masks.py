"""lungs.nii.gz and findings.nii.gz: on the source's grid, read back by nibabel and by SimpleITK."""

from __future__ import annotations

from dataclasses import replace

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from report_examples import GRID, document_of, finish, make_finding, make_lungs, make_report, make_volume, write_report

from lungscreen.geometry import Geometry
from lungscreen.outputs.masks import finding_labels, nifti_bytes, source_grid
from lungscreen.records import Candidate, Outline
from lungscreen.results.build import finding_position
from lungscreen.series import SeriesConfig, find_series
from lungscreen.volume import VolumeConfig, build_volume


def _turned(order, signs, angle=0.0):
    """A source grid whose axis n runs along the canonical axis order[n], backwards where signs[n] is -1."""
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    affine = turn @ GRID.affine
    affine[:3, :3] = affine[:3, list(order)] * np.array(signs)
    return Geometry(affine, tuple(GRID.shape[n] for n in order), "1.9")


SOURCES = {
    "lps": _turned((0, 1, 2), (1, 1, 1)),
    "ras": _turned((0, 1, 2), (1, -1, -1)),
    "head first, top slice first": _turned((0, 1, 2), (-1, 1, 1)),
    "feet first": _turned((0, 1, 2), (-1, 1, -1)),
    "sagittal stack": _turned((2, 0, 1), (1, -1, 1)),
    "coronal stack": _turned((1, 2, 0), (-1, 1, -1)),
    "turned 10 degrees": _turned((0, 1, 2), (1, -1, 1), 0.17),
}


@pytest.mark.parametrize("name", SOURCES)
def test_labels_lie_on_the_source_grid_and_on_their_rows(tmp_path, name):
    """Voxel by voxel against the source's own geometry; each row's place carries its number, for both readers."""
    source = SOURCES[name]
    geometry, order, flips = source.canonical()
    volume = make_volume(geometry, source_order=order, source_flips=flips)
    other = tuple(min(4 + n, geometry.shape[n] - 2) for n in range(3))
    report = make_report(make_finding(volume), make_finding(volume, other, score=0.1, probability=0.1), volume=volume)
    folder = write_report(report, tmp_path, "masks")
    places = [finding["position_mm"] for finding in document_of(report)["findings"]]
    for file, points in (("findings.nii.gz", dict(enumerate(places, 1))), ("lungs.nii.gz", _lung_points(report))):
        _check_nibabel(folder / file, source, points)
        _check_itk(folder / file, source, points)


@pytest.mark.parametrize("name", SOURCES)
def test_nrrd_labels_are_those_of_nifti_on_the_grid_itk_compares(tmp_path, name):
    """In every orientation ITK lays the labels over an image of the source's own grid, which it refuses of NIfTI's."""
    source = SOURCES[name]
    geometry, order, flips = source.canonical()
    volume = make_volume(geometry, source_order=order, source_flips=flips)
    folder = write_report(make_report(make_finding(volume), volume=volume), tmp_path, "masks", "masks-nrrd")
    image = sitk.GetImageFromArray(np.zeros(source.shape, np.uint8))
    image.SetOrigin(source.origin_mm)
    image.SetSpacing(source.spacing_mm[::-1])
    image.SetDirection((source.affine[:3, [2, 1, 0]] / np.array(source.spacing_mm[::-1])).ravel().tolist())
    for kind in ("lungs", "findings"):
        labels = sitk.ReadImage(str(folder / f"{kind}.nrrd"))
        sitk.LabelOverlay(image, labels)
        nifti = np.asarray(nibabel.load(folder / f"{kind}.nii.gz").dataobj).T
        np.testing.assert_array_equal(sitk.GetArrayFromImage(labels), nifti)
        assert nifti.any()


def _lung_points(report):
    """A place in each lung, by label."""
    mask, geometry = report.lungs.mask, report.volume.geometry
    return {label: geometry.to_mm(np.argwhere(mask == label)[7]) for label in (1, 2)}


def _check_nibabel(path, source, points):
    image = nibabel.load(path)
    assert image.shape == source.shape[::-1]
    np.testing.assert_allclose(image.affine, source.to_nifti(), atol=1e-3)
    assert image.get_qform(coded=True)[1] == image.get_sform(coded=True)[1] == 1
    for label, point in points.items():
        ras = np.array([-point[0], -point[1], point[2], 1.0])
        assert image.dataobj[tuple(np.rint(np.linalg.inv(image.affine) @ ras)[:3].astype(int))] == label


def _check_itk(path, source, points):
    image = sitk.ReadImage(str(path))
    assert Geometry.from_itk(image.GetSize(), image.GetSpacing(), image.GetOrigin(), image.GetDirection()).same_as(
        source, 1e-2
    )
    for label, point in points.items():
        assert image.GetPixel(image.TransformPhysicalPointToIndex([float(c) for c in point])) == label


IMAGES = {
    "ras": np.diag([0.7, 0.8, 2.5]),
    "lps": np.diag([-0.7, -0.8, 2.5]),
    "las, top slice first": np.diag([-0.7, 0.8, -2.5]),
    "permuted": np.array([[0, 0.7, 0], [0, 0, -0.8], [2.5, 0, 0]]),
}


@pytest.mark.parametrize("ending", ["nii.gz", "mha"])
@pytest.mark.parametrize("name", IMAGES)
def test_masks_of_an_image_file_have_its_shape_and_affine(tmp_path, name, ending):
    """Through the real reader: what a viewer lays over the input, voxel by voxel."""
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = IMAGES[name], (11.0, -20.0, 300.0)
    hu = np.full(tuple(52 + 8 * n for n in range(3)), -850, np.int16)
    hu[:, :5] = 40
    hu[30:34, 25:30, 40:45] = 60
    path = tmp_path / "scan.nii.gz"
    nibabel.save(nibabel.Nifti1Image(hu, affine), path)
    if ending == "mha":
        image, path = sitk.ReadImage(str(path)), tmp_path / "scan.mha"
        sitk.WriteImage(image, str(path))
    (study,) = find_series([path], SeriesConfig()).studies
    volume = build_volume(study.series[0], VolumeConfig())
    voxel = tuple(int(v) for v in np.argwhere(volume.hu == 60).mean(axis=0).round())
    report = make_report(make_finding(volume, voxel), volume=volume, study=study)
    folder = write_report(report, tmp_path / "out", "masks")
    found, source = sitk.ReadImage(str(folder / "findings.nii.gz")), sitk.ReadImage(str(path))
    assert found.GetSize() == source.GetSize()
    for there, here in ((found.GetOrigin(), source.GetOrigin()), (found.GetDirection(), source.GetDirection())):
        np.testing.assert_allclose(there, here, atol=1e-3)
    place = found.TransformPhysicalPointToIndex(document_of(report)["findings"][0]["position_mm"])
    assert found.GetPixel(place) == 1
    assert source.GetPixel(place) == 60
    if ending == "nii.gz":
        np.testing.assert_allclose(nibabel.load(folder / "lungs.nii.gz").affine, affine, atol=1e-3)


@pytest.mark.parametrize("name", SOURCES)
def test_source_grid_undoes_canonical(name):
    source = SOURCES[name]
    array = np.arange(np.prod(source.shape)).reshape(source.shape)
    geometry, order, flips = source.canonical()
    canonical = np.flip(np.transpose(array, order), [n for n in range(3) if flips[n]])
    volume = make_volume(geometry, source_order=order, source_flips=flips)
    back, found = source_grid(canonical, volume)
    np.testing.assert_array_equal(back, array)
    assert found.same_as(source, 1e-9)


def test_same_labels_give_same_bytes():
    volume = make_volume()
    mask = make_lungs(volume).mask
    assert nifti_bytes(mask, volume) == nifti_bytes(mask.copy(), volume)


def test_position_moves_onto_the_outline_when_the_mark_is_beside_it():
    volume = make_volume()
    finding = make_finding(volume)
    beside = replace(finding, candidate=Candidate((-9.0, 27.0, -275.0 + 20), 11.0, 0.9))
    position = finding_position(beside, GRID)
    k, j, i = np.rint(GRID.to_index(position)).astype(int) - beside.outline.start
    assert beside.outline.mask[k, j, i]
    assert abs(position[2] - (-275.0 + 5.0)) < 0.01, "the nearest voxel of the outline"


def test_unmeasured_finding_is_the_voxel_at_its_place():
    volume = make_volume()
    labels = finding_labels(finish(make_report(make_finding(volume, outline=None, measurement=None))))
    assert np.argwhere(labels == 1).tolist() == [[10, 20, 30]]


def test_overlap_goes_to_the_more_suspicious_but_every_finding_keeps_its_place():
    volume = make_volume()
    first, second = make_finding(volume, score=0.9), make_finding(volume, (10, 20, 31), score=0.1, probability=0.01)
    labels = finding_labels(finish(make_report(first, second, volume=volume)))
    assert labels[10, 20, 30] == 1
    assert labels[10, 20, 31] == 2
    assert (labels == 1).sum() == first.outline.mask.sum() - 1


def test_outline_beyond_the_volume_is_cut():
    volume = make_volume()
    outline = Outline((-2, -3, -4), np.ones((5, 6, 7), bool))
    edge = make_finding(volume, (0, 0, 0), outline=outline)
    assert (finding_labels(finish(make_report(edge, volume=volume))) == 1).sum() == 3 * 3 * 3


def test_more_than_255_findings_fit():
    volume = make_volume()
    findings = [make_finding(volume, (5, 5, 1), outline=None, score=n / 1000) for n in range(299)]
    last = make_finding(volume, (9, 9, 9), outline=None, probability=0.001, score=0.0)
    assert finding_labels(finish(make_report(*findings, last, volume=volume))).max() == 300
