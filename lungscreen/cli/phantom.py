"""`lungscreen phantom`: synthetic chest CT as DICOM, with the truth beside it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, get_args

from lungscreen.cli.exit_codes import ExitCode
from lungscreen.errors import OutputError, UsageError

__all__ = ["add_arguments", "run"]

MOST_PATIENTS = 9999
"""The patient's number is the last four digits of its seed."""

DRAWN_IN = 2020
"""The year in which a patient has the age that the seed draws: visits of other years are the same person, older."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    from lungscreen.phantom.config import SIZES, Dose, Kernel

    add = parser.add_argument
    add("--out", type=Path, required=True, metavar="DIR", help="folder for the patients' folders of DICOM files")
    add("--truth", type=Path, metavar="DIR", help="folder for the truth, NAME.json a patient (default: OUT-truth)")
    add("--patients", type=int, default=1, metavar="N", help="how many patients (default: 1)")
    add("--seed", type=int, default=0, metavar="S", help="the same seed gives the same bytes (default: 0)")
    add("--scan-seed", type=int, default=0, metavar="S", help="another visit: other noise, same bodies and nodules")
    add("--nodules", type=int, default=3, metavar="K", help="nodules a patient, at random (default: 3)")
    add("--no-nodules", dest="nodules", action="store_const", const=0, help="no nodules")
    add("--emphysema", action="store_true", help="holes in the lungs, most in the upper lobes")
    add("--arms-down", action="store_true", help="arms beside the body")
    add("--cut-apex", action="store_true", help="the scan ends below the apex of the lungs")
    add("--cut-base", action="store_true", help="the scan ends above the base of the lungs")
    add("--size", choices=list(SIZES), default="full", help="matrix and slices (default: full)")
    add("--slice-thickness", type=float, metavar="MM", help="thickness of a slice (default: by size)")
    add("--spacing", type=float, metavar="MM", help="from slice to slice (default: the thickness)")
    add("--kernel", choices=get_args(Kernel), default="standard", help="reconstruction kernel (default: standard)")
    add("--dose", choices=get_args(Dose), default="low", help="how noisy (default: low)")
    add("--breathing", type=float, default=0.0, metavar="MM", help="how far the diaphragm went up (default: 0)")
    add("--growth", type=float, default=1.0, metavar="FACTOR", help="growth of every nodule's volume (default: 1)")
    add("--date", default="20200101", metavar="YYYYMMDD", help="date of the study (default: 20200101)")
    add("--syntax", choices=("explicit", "implicit", "jpeg-ls"), default="explicit", help="transfer syntax")
    add("--save-masks", action="store_true", help="lungs and nodules as NIfTI beside the truth")
    add("--overwrite", action="store_true", help="replace the files of an earlier phantom in the same folders")


def run(args: argparse.Namespace) -> int:
    """Make the patients, one after the other; prints where each lies."""
    if not 1 <= args.patients <= MOST_PATIENTS:
        raise UsageError("usage", f"expected 1 to {MOST_PATIENTS} patients, got {args.patients}", "--patients")
    truth = args.truth or args.out.with_name(args.out.name + "-truth")
    folders = [_free_folder(args.out / f"phantom-{n:04d}", args.overwrite) for n in range(1, args.patients + 1)]
    for number, folder in enumerate(folders, 1):
        _one(args, number, folder, truth / f"{folder.name}.json")
        print(f"{folder}\t{truth / folder.name}.json", flush=True)
    return ExitCode.OK


def _one(args: argparse.Namespace, number: int, folder: Path, truth: Path) -> None:
    from tqdm import tqdm

    from lungscreen.phantom import make_phantom, write_dicom, write_truth

    try:
        config = _config(args, number)
        with tqdm(desc=folder.name, unit=" slices", disable=None, leave=False) as bar:

            def progress(done: int, total: int) -> None:
                bar.total = total
                bar.update(done - bar.n)

            phantom = make_phantom(config, progress)
    except ValueError as error:
        raise UsageError("usage", str(error)) from None
    write_dicom(phantom, folder, syntax=args.syntax)
    write_truth(phantom, truth, masks=args.save_masks)


def _config(args: argparse.Namespace, number: int) -> Any:
    """The patient of that number: body, sex and age from the seed."""
    from dataclasses import replace

    from lungscreen.phantom import Pose, sized
    from lungscreen.phantom.anatomy import draw_person
    from lungscreen.phantom.nodules import draw_nodules

    seed = args.seed * (MOST_PATIENTS + 1) + number
    thickness = {} if args.slice_thickness is None else {"slice_thickness_mm": args.slice_thickness}
    spacing = args.spacing or args.slice_thickness
    steps = {} if spacing is None else {"slice_spacing_mm": spacing}
    sex, age = draw_person(seed)
    age += int(args.date[:4]) - DRAWN_IN if args.date[:4].isdecimal() else 0
    nodules = tuple(replace(n, growth=args.growth) for n in draw_nodules(seed, args.nodules))
    return sized(
        args.size,
        seed=seed,
        scan_seed=args.scan_seed,
        nodules=nodules,
        emphysema=args.emphysema,
        arms_down=args.arms_down,
        cut_apex=args.cut_apex,
        cut_base=args.cut_base,
        dose=args.dose,
        kernel=args.kernel,
        pose=Pose(breathing_mm=args.breathing),
        sex=sex,
        age=age,
        study_date=args.date,
        **thickness,
        **steps,
    )


def _free_folder(folder: Path, overwrite: bool) -> Path:
    """The folder, empty or cleared of an earlier phantom's files: two series in one would be neither."""
    if folder.is_dir() and any(folder.iterdir()):
        if not overwrite:
            raise OutputError("output-failed", "the folder is not empty: name another, or --overwrite", str(folder))
        for old in folder.glob("IM[0-9][0-9][0-9][0-9].dcm"):
            old.unlink()
    return folder
