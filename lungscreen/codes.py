"""The one table of codes: what each means and what a site does about it.

Kinds: "refusal" (a file, series, study or command was not carried out) and "notice" (it was, and the report says this).
A code is part of the interface: it may be added, never renamed or given another meaning.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["CODES", "Code"]


@dataclass(frozen=True, slots=True)
class Code:
    """One row of the table."""

    kind: Literal["refusal", "notice"]
    meaning: str
    action: str


CODES: dict[str, Code] = {
    # -- the command ---------------------------------------------------------------------------------------------
    "usage": Code(
        "refusal", "The command line is wrong.", "Read the message; `lungscreen COMMAND --help` lists the options."
    ),
    "config-invalid": Code(
        "refusal",
        "A pipeline or training configuration is wrong: an unknown key, a wrong type or range.",
        "Correct the named key.",
    ),
    "weights-invalid": Code(
        "refusal",
        "Weights are missing, damaged or belong to another network.",
        "Reinstall, or point the pipeline at intact weights.",
    ),
    "output-failed": Code(
        "refusal", "Results could not be written.", "Check the folder's rights and free space, then run again."
    ),
    "extra-missing": Code(
        "refusal",
        "An output needs packages that are not installed.",
        "Install the extra that the message names, or leave the output out.",
    ),
    "output-needs-dicom": Code(
        "refusal",
        "DICOM objects were asked for, but the scan was read from an image file; its report stands.",
        "Read the DICOM series itself.",
    ),
    "export-series-missing": Code(
        "refusal",
        "The series that a result was made from is not in the input, or its objects are others now.",
        "Point --input at the original series, or read the study again.",
    ),
    "export-masks-missing": Code(
        "refusal",
        "A result has no masks: its outlines cannot be drawn again.",
        "Read the study again with --save-masks, or with the wanted --outputs at once.",
    ),
    "deidentify-pixels": Code(
        "refusal",
        "An image's pixels may show who it is: burned-in annotation or a secondary capture.",
        "Leave it out, or clean it by other means.",
    ),
    "monitor-alarm": Code(
        "notice",
        "A figure of the monitor is no longer what it usually was.",
        "Do what the alarm's text says; when it is explained, begin anew with `lungscreen monitor --since`.",
    ),
    "internal-error": Code(
        "refusal",
        "The software failed on this study; the others went on.",
        "Report it with the log; the study was not read.",
    ),
    # -- files and containers ------------------------------------------------------------------------------------
    "input-missing": Code("refusal", "The path does not exist.", "Check the path."),
    "input-empty": Code("refusal", "The folder or archive holds no file.", "Check the path or the transfer."),
    "no-ct": Code(
        "refusal",
        "No CT series was found in the input.",
        "Check that the CT itself, not only reports or scouts, was sent.",
    ),
    "file-unreadable": Code(
        "refusal",
        "The file or archive member cannot be read: no right to, vanished, damaged medium or archive.",
        "Check rights and the transfer, then run again.",
    ),
    "file-too-large": Code(
        "refusal",
        "The file, or what it unpacks to, is larger than any chest CT.",
        "Check what it is; a CT file of this size is damaged or hostile.",
    ),
    "not-dicom": Code(
        "refusal",
        "The file is neither DICOM nor one of the image formats that are read.",
        "None, if it does not belong to the scan.",
    ),
    "dicom-damaged": Code("refusal", "The DICOM header cannot be parsed.", "Transfer the file again."),
    "archive-damaged": Code("refusal", "The zip archive cannot be opened.", "Make or transfer the archive again."),
    "archive-unsafe": Code(
        "refusal",
        "The zip archive has a member whose name leads out of the archive: nothing of it was read.",
        "Make the archive again; find out where it came from.",
    ),
    "archive-too-large": Code(
        "refusal",
        "The zip archive has more or larger members than allowed, or unpacks to far more than its size.",
        "Unpack it yourself if you trust it, and name the folder.",
    ),
    "archive-nested": Code(
        "refusal", "A zip archive inside a zip archive is not read.", "Unpack the inner one and name it."
    ),
    "archive-encrypted": Code(
        "refusal",
        "An encrypted member of a zip archive is not read.",
        "Unpack it with its password and name the folder.",
    ),
    "dicomdir-reference": Code(
        "refusal",
        "The DICOMDIR lists a file that is not there or lies outside its own folder.",
        "Copy the medium again, whole.",
    ),
    "same-file-name": Code(
        "notice",
        "Two image files have the same name: a number was added to the second one's.",
        "Give image files names of their own.",
    ),
    # -- series: what the header pass finds ----------------------------------------------------------------------
    "not-ct": Code("refusal", "Not a CT image: a report, a mark-up, another modality.", "None."),
    "not-hu": Code(
        "refusal",
        "The values are no Hounsfield units (iodine map, electron density, effective atomic number...).",
        "Send the ordinary CT reconstruction.",
    ),
    "localizer": Code("refusal", "A localizer (scout, topogram).", "None."),
    "not-axial-image": Code(
        "refusal",
        "A projection, reformat, average or rendering made from the CT (MIP, MPR...).",
        "Send the axial reconstruction.",
    ),
    "altered-image": Code(
        "refusal",
        "Structures were removed or marked by other software (vessel suppression, CAD).",
        "Send the original reconstruction.",
    ),
    "not-axial": Code("refusal", "The slices are not axial within 5 degrees.", "Send the axial reconstruction."),
    "body-part": Code(
        "refusal",
        "The header says that another part of the body was scanned.",
        "Check the order; correct the header if it is a chest after all.",
    ),
    "header-incomplete": Code(
        "refusal", "The header lacks what a CT image must have (UIDs, rows, columns, bits).", "Export the series again."
    ),
    "position-invalid": Code(
        "refusal", "Image position or orientation is absent or no valid set of numbers.", "Export the series again."
    ),
    "spacing-invalid": Code("refusal", "Pixel spacing is absent, not positive or absurd.", "Export the series again."),
    "rescale-missing": Code(
        "refusal",
        "Rescale slope or intercept is missing: the values cannot be turned into Hounsfield units.",
        "Export the series again from the scanner.",
    ),
    "rescale-invalid": Code(
        "refusal",
        "Rescale slope or intercept is no valid number, or the slope is 0.",
        "Export the series again from the scanner.",
    ),
    "size-absurd": Code(
        "refusal",
        "Rows, columns or number of frames are not those of a chest CT.",
        "Export the series again; the header is damaged.",
    ),
    "series-two-patients": Code(
        "refusal",
        "One series UID occurs under two patients: it is not known whose images these are.",
        "Have the archive corrected before anything is read.",
    ),
    "same-uid-other-pixels": Code(
        "refusal",
        "Two files carry one SOP Instance UID but different pixels.",
        "Find out which is right; send only that.",
    ),
    "series-other-chosen": Code(
        "refusal",
        "A readable series that was not needed: a better one of the study was read.",
        "None; name this series alone to have it read.",
    ),
    "two-names-one-id": Code(
        "notice",
        "One patient ID occurs with two names: the studies are kept apart and never compared.",
        "Check whose studies these are.",
    ),
    "results-passed-over": Code(
        "refusal",
        "A folder of results lies in the input; it was not searched for studies.",
        "None; to export from it: `lungscreen export`.",
    ),
    "duplicate-files": Code("notice", "The same images are in the input more than once; one copy was read.", "None."),
    "series-split": Code(
        "notice",
        "One series UID holds images of different geometry or kernel; only those that belong together were read.",
        "Check that the right ones were read.",
    ),
    "body-part-unclear": Code(
        "notice",
        "The header names another body part, but the scan may show the lungs.",
        "Check that this is the chest.",
    ),
    "not-adult": Code(
        "notice",
        "The patient is younger than 18 by the header: networks, measures and rules are for adults.",
        "Do not use the result; check the header if the patient is an adult.",
    ),
    "attenuation-correction": Code(
        "notice",
        "The series was probably made to correct another scanner's attenuation (PET, SPECT): noisy, while breathing.",
        "Send the diagnostic series of the exam.",
    ),
    "sharp-kernel": Code(
        "notice",
        "Reconstructed with a sharp (lung, bone) kernel; the networks saw mostly soft and standard ones.",
        "Prefer a soft or standard reconstruction.",
    ),
    "kernel-unknown": Code(
        "notice",
        "The header names no reconstruction kernel, or one that is not known.",
        "Check that it is a soft or standard kernel.",
    ),
    "contrast": Code(
        "notice",
        "The header names a contrast agent; screening is done without.",
        "None; densities of nodules may be raised.",
    ),
    "lossy": Code("notice", "The images went through lossy compression.", "Send lossless images."),
    "burned-in": Code(
        "notice", "The header says that text is burned into the images.", "Check the images before they are passed on."
    ),
    "small-field-of-view": Code(
        "notice",
        "The field of view is small: parts of the lungs may lie outside.",
        "Send the reconstruction with the full field of view.",
    ),
    "low-dose": Code(
        "notice",
        "The dose is lower than that of the scans on which the networks were trained.",
        "Read with the noise in mind.",
    ),
    "dose-unknown": Code("notice", "The header gives neither CTDIvol nor tube current.", "None."),
    "multi-energy": Code(
        "notice",
        "A dual-energy (multi-energy) acquisition, read as ordinary CT.",
        "Check that the series is the ordinary reconstruction.",
    ),
    "unit-unspecified": Code(
        "notice",
        "The header leaves the values' unit unspecified (RescaleType US): they were read as Hounsfield units.",
        "Check that the series is the scanner's own reconstruction.",
    ),
    "derived": Code(
        "notice",
        "The header calls the images derived, not original.",
        "Check that they are the scanner's own reconstruction.",
    ),
    "file-left-out": Code(
        "notice",
        "Some files of the series could not be used; they count as missing slices.",
        "See refused.csv; send the series again.",
    ),
    "stand-in-series": Code(
        "notice",
        "The series that comes first could not be read; another one of the study was.",
        "Send the series again.",
    ),
    # -- volume: geometry and pixels -----------------------------------------------------------------------------
    "too-few-slices": Code("refusal", "The series has fewer slices than a chest needs (20).", "Send the whole series."),
    "too-short": Code(
        "refusal", "The slices cover less of the body than a chest needs (100 mm).", "Send the whole series."
    ),
    "slice-gap": Code(
        "refusal", "Slices are missing and the hole is too large to be filled.", "Send the whole series."
    ),
    "uneven-spacing": Code(
        "refusal",
        "The slices lie at uneven distances, more than 5 mm apart in places.",
        "Send an evenly spaced reconstruction.",
    ),
    "too-thick": Code("refusal", "Slices are thicker or further apart than 5 mm.", "Send a thin reconstruction."),
    "several-images-per-position": Code(
        "refusal",
        "Several different images lie at one position, and nothing tells the passes apart.",
        "Send one pass or phase as a series of its own.",
    ),
    "positions-irregular": Code("refusal", "The slices do not lie on a straight line.", "Export the series again."),
    "tilt-too-large": Code("refusal", "The gantry tilt is above 30 degrees.", "Send an untilted acquisition."),
    "transfer-syntax": Code(
        "refusal",
        "The pixels are compressed in a way that is not read.",
        "Send the series uncompressed, or as JPEG-LS, JPEG 2000 or RLE.",
    ),
    "pixels-damaged": Code(
        "refusal", "The pixel data are missing, too short, too long or damaged.", "Transfer the files again."
    ),
    "pixels-unsupported": Code(
        "refusal",
        "The pixels are in a form that CT does not use (colour, more than 16 bits, floating point).",
        "Send the scanner's own reconstruction.",
    ),
    "frames-invalid": Code(
        "refusal",
        "A multi-frame object does not describe its frames whole.",
        "Export the series again, as single-frame CT if possible.",
    ),
    "volume-too-large": Code(
        "refusal",
        "The series is larger than any chest CT that is read.",
        "Send one reconstruction as a series of its own.",
    ),
    "series-part": Code(
        "refusal", "A part of the series that does not belong to what was read: another pass, phase or stack.", "None."
    ),
    "image-damaged": Code(
        "refusal", "The image file cannot be read.", "Write it again; reading needs NIfTI, NRRD, MHA or MHD."
    ),
    "image-dimensions": Code(
        "refusal", "The image file is no single three-dimensional grey volume.", "Write one CT volume per file."
    ),
    "image-not-hu": Code(
        "refusal",
        "The image's values are not Hounsfield units.",
        "Write the CT in Hounsfield units, not scaled or windowed.",
    ),
    "image-geometry": Code(
        "refusal",
        "The image file says nothing, or nothing consistent, about position and orientation, or is skewed.",
        "Write it with its geometry (sform or qform, direction).",
    ),
    "image-reference": Code(
        "refusal", "The image's header points to data outside its own folder.", "Write header and data into one file."
    ),
    "slices-filled": Code(
        "notice", "Missing slices were interpolated between their neighbours.", "Look at the named places yourself."
    ),
    "slices-stray": Code(
        "notice", "A few slices far off the rest were left out.", "None, if they are key images or bolus tracking."
    ),
    "slices-duplicate": Code("notice", "Slices that occur twice with the same pixels were read once.", "None."),
    "slices-damaged": Code(
        "notice",
        "Slices whose pixels could not be read, or do not fit their neighbours, were left out and count as missing.",
        "Send these files again.",
    ),
    "slices-odd": Code(
        "notice",
        "Slices of a volume of any size do not fit their neighbours: they were read as they stand.",
        "Look at these slices: what was found there may be wrong.",
    ),
    "values-uneven": Code(
        "notice",
        "Soft tissue steps up or down between neighbouring slices: the values of some are off.",
        "Send the series again; densities and sizes there may be wrong.",
    ),
    "values-shifted": Code(
        "notice",
        "Air and fat both measure too much or too little: all values of the series are off.",
        "Check the scanner's calibration and the series' rescale values; densities may be wrong.",
    ),
    "values-odd": Code(
        "notice",
        "Air in the windpipe, or soft tissue between the lungs, measures what it cannot.",
        "Check the series' rescale values; look at the windpipe and the heart; densities may be wrong.",
    ),
    "spacing-resampled": Code(
        "notice", "Unevenly spaced slices were interpolated to even spacing.", "Prefer an evenly spaced reconstruction."
    ),
    "gantry-tilt": Code("notice", "A gantry tilt (or sideways drift) was taken out by shifting the slices.", "None."),
    "several-passes": Code(
        "notice",
        "The series holds several passes, phases or stacks; the one with most lung was read.",
        "Check that the right one was read.",
    ),
    "thick-slices": Code(
        "notice",
        "Slices are thicker than 2.5 mm: small nodules may be missed, volumes are uncertain.",
        "Send a thin reconstruction.",
    ),
    "overlapping": Code("notice", "Slices overlap: they are thicker than 1.5 times their distance.", "None."),
    "gaps-between-slices": Code(
        "notice",
        "Slices are thinner than their distance: there is tissue between them that was not imaged.",
        "Send a contiguous reconstruction.",
    ),
    "values-clipped": Code(
        "notice",
        "Some values lie outside what the volume can hold and were clipped.",
        "Check the series' rescale values.",
    ),
    "padding-ignored": Code("notice", "The header's padding value is not air and was ignored.", "None."),
    "image-geometry-guessed": Code(
        "notice",
        "The image names its geometry in a way that leaves room: it was read as said here.",
        "Check left and right in the report.",
    ),
    # -- lungs ---------------------------------------------------------------------------------------------------
    "no-lungs": Code(
        "refusal",
        "No lung was found: another body part, a test object, or hardly any air in the chest.",
        "Check that the series shows the chest.",
    ),
    "lung-apex-cut": Code(
        "notice",
        "The scan ends within the lungs at the top.",
        "Nodules beyond the scan are not seen; look at the scout or repeat if the programme asks for whole lungs.",
    ),
    "lung-base-cut": Code(
        "notice",
        "The scan ends within the lungs at the bottom.",
        "Nodules beyond the scan are not seen; look at the scout or repeat if the programme asks for whole lungs.",
    ),
    "lung-missing": Code(
        "notice",
        "Only one air-filled lung was found.",
        "Read the other side: pneumonectomy, collapse, effusion, or an error of the software.",
    ),
    "lung-unequal": Code(
        "notice",
        "One lung is much smaller than the other.",
        "Read the smaller side: a region may be airless, or the software missed it.",
    ),
    "lung-small": Code(
        "notice",
        "Both lungs together hold less than an adult's usually do.",
        "Check breath-hold and range of the scan; findings outside the mask are not searched.",
    ),
    "lung-left-out": Code(
        "notice",
        "More than 20 ml of air inside the chest look like lung and are in no lung that was found: they were not"
        " searched.",
        "Read that part of the lungs yourself: slices may be damaged, or the software parted a lung.",
    ),
    "upside-down": Code(
        "notice",
        "The trachea lies below the lungs' middle: head and feet are probably exchanged, and with them the places.",
        "Export the series again; where nodules lie in the report is wrong, perhaps left and right too.",
    ),
    "lung-incomplete": Code(
        "notice",
        "A large opacity may hide part of a lung from the software.",
        "Read the opacity and what lies around it: it may not have been searched.",
    ),
    "airways-not-found": Code(
        "notice",
        "No trachea was found, so large airways may be part of the lungs' mask.",
        "Expect marks on airway walls near the mediastinum.",
    ),
    # -- detect and measure --------------------------------------------------------------------------------------
    "bundle-invalid": Code(
        "refusal",
        "A MONAI bundle lacks a file, or its configuration says something that this software does not know.",
        "Download it again, or undo changes to its configs/inference.json; the message names the entry.",
    ),
    "bundle-needs-monai": Code(
        "refusal",
        "The pipeline names a MONAI bundle, and MONAI is not installed.",
        "Run `pip install 'lungscreen[monai]'`.",
    ),
    "detector-foreign": Code(
        "notice",
        "A MONAI bundle looked for nodules, not the shipped network.",
        "The figures in the documents are not those of this detector; see the bundle's own.",
    ),
    "detector-weights": Code(
        "notice",
        "Weights that the pipeline names looked for nodules, not the shipped ones.",
        "The figures in the documents are not those of these weights; see their own card.",
    ),
    "outside-volume": Code(
        "notice", "A point lies outside the volume.", "Check the point's coordinates (LPS mm) and the series it is for."
    ),
    "not-outlined": Code(
        "notice",
        "Nothing at a finding's place stands out from the lung around: it has no outline and no size.",
        "Look at the place in the images and measure by hand.",
    ),
    "outline-uncertain": Code(
        "notice",
        "More than half of a finding's outline borders on tissue as dense as itself: wall, vessel or a larger opacity.",
        "Check the outline in the pictures; measure by hand where it is wrong.",
    ),
    "cut-by-edge": Code(
        "notice",
        "A finding reaches the edge of the scanned volume.",
        "It may be larger than measured; look for a series that shows all of it.",
    ),
    "points-invalid": Code(
        "refusal",
        "The table of points lacks a column, or a row of it is no point.",
        "Correct the named row: seriesuid, x_mm, y_mm, z_mm (LPS), finding.",
    ),
    "nodules-invalid": Code(
        "refusal",
        "The table of nodules or exams cannot be used: no such file, no CSV or JSON, a column is missing, unknown or"
        " there"
        " twice, or a row has another number of cells than the header.",
        "Read the message; docs/grade.md lists the columns.",
    ),
    "nodule-row-invalid": Code(
        "refusal",
        "A row of the table of nodules or exams lacks the patient, the date or the nodule. An exam that it may"
        " belong to is not called 1 or 2.",
        "Correct the row, then grade again.",
    ),
    "nodule-duplicate": Code(
        "refusal",
        "Two rows of the table are of one nodule at one exam: neither is used, and the exam is not called 1 or 2.",
        "Keep one of them, then grade again.",
    ),
    "nodule-value": Code(
        "notice",
        "A cell of the table of nodules is not understood, impossible or contradicts another: it counts as not known.",
        "Correct the cell that is named.",
    ),
    "taken-as-resolved": Code(
        "notice",
        "An exam does not list a nodule that an earlier exam lists: it is taken as resolved.",
        "Add the row where the nodule is still there.",
    ),
    "points-without-series": Code(
        "refusal",
        "Points name a series that is not in the input or could not be read.",
        "Add the series, or correct it.",
    ),
    "marks-too-small": Code(
        "notice", "Marks above the operating point that measure less than the least size are no findings.", "None."
    ),
    # -- classify and assess -------------------------------------------------------------------------------------
    "not-assessed": Code(
        "notice",
        "A rule was not applied, because it needs something that is not known.",
        "Supply what the text names, or apply the rule by hand.",
    ),
    "as-baseline": Code(
        "notice",
        "No images of an earlier exam were compared: every nodule is graded as on a first exam.",
        "Compare with the earlier exam before acting on the category.",
    ),
    "not-evaluable": Code(
        "notice",
        "Part of the lungs could not be evaluated (Lung-RADS category 0).",
        "Repeat or complete the scan where the missing part matters.",
    ),
    "growth-undetermined": Code(
        "notice",
        "Exams lie more than 12 months apart, and growth within any 12 months is neither shown nor ruled out.",
        "It is read as growth; an exam in between would decide.",
    ),
    "measures-disagree": Code(
        "notice",
        "By volume and by diameter a nodule has different Lung-RADS categories.",
        "Look at the outline; both categories are shown, and the setting says which one decides.",
    ),
    "volume-unknown": Code(
        "notice",
        "Volume was to decide, but is not known for a nodule: its diameter decided.",
        "Measure the volume where it matters.",
    ),
    "prior-other-patient": Code(
        "notice",
        "An exam given as an earlier one is of another patient (PatientID, birth date or sex): it was not compared.",
        "Check whose exams these are; correct the header where it is the same person after all.",
    ),
    "prior-newer": Code(
        "notice",
        "An exam given as an earlier one is of the same day as this exam, or later: it was not compared.",
        "Check the dates in the headers.",
    ),
    "prior-date-missing": Code(
        "notice",
        "This exam, or one given as earlier, has no valid date: the two were not compared.",
        "Correct the study date in the header.",
    ),
    "prior-not-compared": Code(
        "notice",
        "It is not certain that an earlier exam is of this person: nothing was compared with it. Two names, an image "
        "file without a patient, no real ID or name, another issuer, or neither birth date nor issuer that agree.",
        'Compare with the earlier exam yourself. Pseudonymised archives without birth dates: `priors_by = "id"`.',
    ),
    "priors-by-id": Code(
        "notice",
        "The pipeline finds earlier exams by the patient ID alone (`[comparison] priors_by`).",
        "Nothing, where the archive gives each person one ID of their own.",
    ),
    "prior-not-fetched": Code(
        "notice",
        "The node could not ask the archive for earlier exams, or not all that it has came: the exam was read without.",
        "Compare with the earlier exam yourself, or send the earlier exam to the node: this one is read again then.",
    ),
    "prior-unreadable": Code(
        "notice",
        "The images or the report of an earlier exam could not be read; the text says why.",
        "Compare with the earlier exam yourself: its nodules hold the exam from category 1 and 2.",
    ),
    "prior-not-aligned": Code(
        "notice",
        "The lungs of this and the earlier exam could not be aligned: places were not compared.",
        "Compare with the earlier exam yourself.",
    ),
    "prior-by-size": Code(
        "notice",
        "An earlier exam was compared by the sizes in its report only; nothing is called new or resolved.",
        "Supply the images of the earlier exam.",
    ),
    "prior-older": Code(
        "notice", "There are more earlier exams of the patient, which were not compared.", "None; the latest one was."
    ),
    "prior-report-invalid": Code(
        "refusal",
        "A report.json given as an earlier exam is damaged or no report of this software.",
        "Supply the report as it was written, or the images.",
    ),
    "place-not-compared": Code(
        "notice",
        "A finding's place was not compared with the earlier exam: it is graded as on a first exam, not as new.",
        "Compare with the earlier exam yourself.",
    ),
    "seen-again": Code(
        "notice",
        "The detector marked nothing at a finding's place in the earlier exam, but the image looks alike: not new.",
        "Look at both exams: a new nodule on a vessel can look alike.",
    ),
    "found-by-prior": Code(
        "notice",
        "The finding lies below the operating point and is listed because an earlier exam shows a nodule there.",
        "Look at both exams: it may be the same nodule.",
    ),
    "match-ambiguous": Code(
        "notice",
        "Another nodule was nearly as likely to be the same one at the earlier exam.",
        "Check which is which before growth is relied on.",
    ),
    "prior-category-unknown": Code(
        "notice",
        "A nodule's own category at the last exam is not known: there is no step-down from it.",
        "Supply the earlier report, or read the nodule's category there.",
    ),
    "prior-category-higher": Code(
        "notice",
        "A nodule's row gives a lower category than its 4B or 4X at the last exam: one that has grown stays what it"
        " was; one"
        " that is benign by its calcification or fat takes the row.",
        "A reader decides which of the two stands.",
    ),
    "prior-nodule-unknown": Code(
        "notice",
        "It is not known whether a nodule of an earlier exam is still there: its place lies outside this scan, it may"
        " have merged with another, it was not measured, or only its report was compared. The exam is no 1 or 2.",
        "Look at the nodule's place, or compare with the earlier images.",
    ),
    "prior-history-left-out": Code(
        "notice",
        "An earlier report names still earlier exams of its nodules whose dates are impossible, twice the same, or not"
        " before that report's own: they were left out.",
        "Check the dates in the earlier report.",
    ),
    "prior-type-unknown": Code(
        "notice",
        "A nodule's type at an earlier exam is not known: it is compared as the type that it has now.",
        "Check whether its solid part is new.",
    ),
    "type-size-disagree": Code(
        "notice",
        "A nodule's type and the size of its solid part do not fit together.",
        "Check both on the images; the text says which one decided.",
    ),
    "consider-4x": Code(
        "notice",
        "Something that may raise suspicion was estimated (spiculation, doubling of ground-glass).",
        "A reader decides whether the category is 4X; the software never does.",
    ),
    "estimated-shape": Code(
        "notice",
        "A category rests on a shape that the software estimated (juxtapleural, smooth, oval or lentiform).",
        "Check the shape; without it the category named in the text holds.",
    ),
    "consider-juxtapleural": Code(
        "notice",
        "A solid nodule lies at the lung's border; whether it is smooth and oval, lentiform or triangular was not"
        " assessed.",
        "A reader who finds it so may use the juxtapleural row that the text names; the software never does.",
    ),
    "consider-perifissural": Code(
        "notice",
        "A fissure, or another thin sheet as wide, may touch a solid nodule; whether it is smooth and oval, lentiform"
        " or "
        "triangular was not assessed.",
        "A reader who sees the fissure and that shape may use the juxtapleural row that the text names; the software"
        " never does.",
    ),
    "consider-solid": Code(
        "notice",
        "A ground-glass nodule below 8 mm may be a solid one that blur makes look fainter.",
        "Where a reader finds it solid, the higher category that the text names holds.",
    ),
    "no-nodule-marks": Code(
        "notice",
        "Doubtful marks lie below the operating point: they are measured, listed apart and not graded.",
        "Glance over their pictures; a lower `threshold` under [findings] of a pipeline grades them.",
    ),
    "second-look-doubts": Code(
        "notice",
        "The second look takes a finding for no nodule, but it stays one for the reason that the text gives.",
        "Look whether it is a nodule before its category counts.",
    ),
    "doubtful-findings": Code(
        "notice",
        "Findings that are probably no nodules are listed and graded, but the exam's category does not follow them.",
        "Look at their pictures: one that is a nodule has the category that stands beside it.",
    ),
    "inflammation-possible": Code(
        "notice",
        "New nodules may come from infection or inflammation (Lung-RADS v2022 note 10).",
        "A reader decides whether category 0 with CT in 1 to 3 months fits.",
    ),
    # -- report --------------------------------------------------------------------------------------------------
    "kvp-not-validated": Code(
        "notice",
        "The tube voltage is not one of the training data's.",
        "Read the result with more reserve: its figures were measured at other voltages.",
    ),
    "dose-not-validated": Code(
        "notice",
        "The scan is low-dose; training data are standard-dose.",
        "Read the result with more reserve: its figures were measured at standard dose.",
    ),
    "kernel-not-validated": Code(
        "notice",
        "The kernel is sharp or not known; most training data have soft or standard kernels.",
        "Send a soft or standard kernel too where the scanner makes one.",
    ),
    "thickness-not-validated": Code(
        "notice",
        "Slices are thicker than the training data's.",
        "Send the thin series; from thick slices small nodules are missed and sizes are off.",
    ),
    "acquisition-unknown": Code(
        "notice",
        "Tube voltage, dose, kernel or slice thickness is not in the header, so it was not compared.",
        "Check in the PACS that the protocol is a usual one.",
    ),
    "findings-cut-off": Code(
        "notice",
        "More findings reached the operating point than a report lists.",
        "Look at candidates.csv; many findings often mean an infection or many metastases.",
    ),
    "clinical-invalid": Code(
        "refusal",
        "The file of patient data cannot be read: not CSV or JSON, too large, or without a column patient_id.",
        "Correct the file; the command read nothing.",
    ),
    "clinical-columns": Code(
        "notice",
        "The file of patient data has columns that are not known, or rows that do not fit its header.",
        "Correct the names that the text lists; such columns and rows are not used.",
    ),
    "clinical-encoding": Code(
        "notice",
        "The file of patient data is not UTF-8: its encoding was guessed.",
        "Save it as UTF-8.",
    ),
    "clinical-value": Code(
        "notice",
        "A value in the patient data is not understood, impossible, or contradicts its own row: it counts as not"
        " known.",
        "Correct the named column of the named row.",
    ),
    "clinical-age": Code(
        "notice",
        "An age in the patient data or in the DICOM header is impossible: it counts as not known.",
        "Correct it at its source.",
    ),
    "clinical-contradicts": Code(
        "notice",
        "A row of patient data contradicts the DICOM header (sex, age or study date): the whole row is not used.",
        "Check whose row it is.",
    ),
    "clinical-duplicate": Code(
        "notice",
        "There are several rows of patient data for this patient and exam.",
        "Keep one; rows that differ are not used at all.",
    ),
    "clinical-unmatched": Code(
        "notice",
        "No row of patient data belongs to this patient and exam.",
        "Check PatientID, accession number and study date, if there should be one.",
    ),
    # -- batch ---------------------------------------------------------------------------------------------------
    "key-invalid": Code(
        "refusal",
        "The key file for pseudonyms cannot be read or made, is open to others, or is no key.",
        "Give a file of 32 random bytes that only you can read with --key-file.",
    ),
    "key-differs": Code(
        "refusal",
        "The results folder was begun with another key file, or with the other choice of --identified.",
        "Name the key file that it was begun with, or begin another folder.",
    ),
    "out-in-use": Code(
        "refusal", "Another run is at work on this results folder.", "Wait for it, stop it, or name another folder."
    ),
    "ledger-invalid": Code(
        "refusal",
        "The ledger or the index of a results folder is damaged, or of another version.",
        "Update lungscreen, or move the ledger and index away: the studies are then read again.",
    ),
    "time-limit": Code(
        "refusal",
        "The study took longer than the limit in seconds per study, twice.",
        "Look at its size; raise --study-limit, then `lungscreen batch retry`.",
    ),
    "worker-died": Code(
        "refusal",
        "The process that read this study ended twice before it was done: too little memory, or a crash in a library.",
        "Give workers more memory (fewer --workers), then `lungscreen batch retry`; else report it.",
    ),
    "library-said": Code(
        "notice",
        "A library wrote a line on the error stream. It stands in the log alone, without what could name a patient.",
        "Nothing, where the studies of that time were read; else send the line along with your report of the fault.",
    ),
    "out-of-memory": Code(
        "refusal",
        "There was not enough memory for this study, twice, or it took more than --worker-memory allows.",
        "Use fewer --workers or raise --worker-memory, then `lungscreen batch retry`.",
    ),
    "interrupted": Code(
        "refusal",
        "The whole night was interrupted, or a node of the cluster lost, four times while this study was being read,"
        " the"
        " last time while it ran alone.",
        "Find out whether it brings the machine down before `lungscreen batch retry`.",
    ),
    "cluster-unreachable": Code(
        "refusal",
        "There is no Ray cluster to work on, or none of its nodes had room for a worker for too long.",
        "Install lungscreen[ray], start the cluster or set RAY_ADDRESS, and run again: the night goes on.",
    ),
    "node-differs": Code(
        "refusal",
        "A node of the cluster has another version of lungscreen, or other weights, than the head; it is not used.",
        "Install the same on every node.",
    ),
    "drift": Code(
        "notice",
        "Tonight's scans or results differ from those of the last nights, beyond chance and by much.",
        "Find out what changed: scanner, protocol, kernel, population. The software's figures hold for the old ones.",
    ),
    # -- the DICOM node ------------------------------------------------------------------------------------------
    "node-address": Code(
        "refusal",
        "The node cannot listen at its address: the port is taken, or may not be used.",
        "Name another host or port in node.toml, or end what listens there.",
    ),
    "peer-refused": Code(
        "refusal",
        "An association was rejected: AE title or address is not on the node's list, or too many are open.",
        "If the sender is one of yours, add it to calling and addresses, or raise limits.associations.",
    ),
    "peer-idle": Code(
        "refusal",
        "An association was closed: nothing whole came from it for limits.idle_s.",
        "Look at the network and the sender; what it sent before is kept, and it may send again.",
    ),
    "node-full": Code(
        "refusal",
        "An instance was answered with 0xA700 and not kept: too large, or too little free space.",
        "Make room, or raise limits.instance_mb; then let the sender try again.",
    ),
    "instance-unnamed": Code(
        "refusal",
        "An instance was answered with 0xC000 and not kept: it came without a SOP Instance UID or without data.",
        "Ask the sender's vendor.",
    ),
    "half-sent": Code(
        "notice",
        "The association that sent a study broke off, and nobody sent it again: it was read as far as it came.",
        "Send the study again; it is read again when it holds more.",
    ),
    "destination-unreachable": Code(
        "notice",
        "A destination cannot be reached, or does not accept the association. Its results wait.",
        "Check that it runs, and that it knows the node's AE title and address.",
    ),
    "result-refused": Code(
        "refusal",
        "A destination refused a result; the status that it gave stands beside it.",
        "Look into the destination's log; `lungscreen node retry` sends dead letters again.",
    ),
    "result-class-refused": Code(
        "refusal",
        "A destination does not take objects of this class.",
        "Allow the class there, or leave the output out of node.toml.",
    ),
    "result-warned": Code(
        "notice",
        "A destination stored a result with a warning; its status stands beside it.",
        "Compare what is stored with the object in the results folder.",
    ),
    "commitment-failed": Code(
        "refusal",
        "A destination says that it did not keep a result that it had stored; its reason stands beside it.",
        "It is sent again; look into the destination's log where it becomes a dead letter.",
    ),
    "commitment-missing": Code(
        "refusal",
        "A destination did not say, within limits.commitment_s, that it committed a result, or takes no such requests.",
        "See that it does storage commitment and knows the node's address; else set commitment = false for it.",
    ),
    "commitment-unknown": Code(
        "notice",
        "Somebody answered a request for storage commitment that the node did not make, or that cannot be read.",
        "Nothing was changed. Look into the log of the destination that says so.",
    ),
    # -- training and evaluation ---------------------------------------------------------------------------------
    "training-diverged": Code(
        "refusal",
        "A training run's loss is no longer a finite number.",
        "Lower the learning rate; the run goes on from its last checkpoint.",
    ),
    "training-data-invalid": Code(
        "refusal",
        "Prepared training data or a checkpoint cannot be read, or nothing is left to learn from.",
        "Prepare the data again, or correct the split; for a damaged checkpoint start a new run.",
    ),
    "fusion-cases": Code(
        "notice",
        "A site's own model: rows of the three tables that found no partner were left out, or count as not known.",
        "Check that patient_id (and study_uid, finding) are written alike in all of them.",
    ),
    "fusion-columns": Code(
        "notice",
        "A site's own model: columns of the patient data that are never known or always the same are not in it.",
        "Nothing, unless the column was meant to count.",
    ),
    "fusion-few": Code(
        "notice",
        "A site's own model rests on fewer than ten patients of the rarer class for each of its columns.",
        "Collect more outcomes, or give fewer columns, before its coefficients are read as anything.",
    ),
    "type-assumed": Code(
        "notice",
        "Annotated nodules have no type: the category that they should have was taken from a solid nodule's rows.",
        "Add a column `type` (solid, part-solid, ground-glass, or LIDC's texture 1 to 5) to the annotations.",
    ),
    "outlines-unreadable": Code(
        "refusal", "A readers' XML file is damaged, hostile or of another kind.", "Download the file again."
    ),
    "outlines-elsewhere": Code(
        "refusal",
        "A reader's mark lies on no slice of the series, or beyond its images.",
        "Check that XML and images belong together and whether the images are cropped.",
    ),
    "outlines-by-position": Code(
        "notice", "Readers' outlines were matched to slices by position, not by UID.", "Compare one outline by eye."
    ),
    "outlines-merged": Code(
        "notice", "Several outlines of one reader were taken as one nodule.", "Look at the nodule where it matters."
    ),
    "outlines-by-name": Code(
        "notice", "Readers' outlines were matched to a series by folder or patient.", "Compare one outline by eye."
    ),
    "annotations-missing": Code(
        "refusal", "A scan has no annotations: it was left out.", "Supply them, or say that none means no nodule."
    ),
    "annotations-unused": Code(
        "notice", "Annotations name scans that were not found.", "Check that the download is complete."
    ),
    "annotation-outside": Code(
        "refusal",
        "A nodule lies outside the scan that it is annotated in: the scan was left out.",
        "Check that coordinates are LPS mm (not RAS, not voxels) and of this series.",
    ),
    "excluded-outside": Code(
        "notice", "Excluded findings outside the scan were left out.", "Nothing, where the scan was cropped."
    ),
    "excluded-missing": Code(
        "notice", "There is no table of excluded findings.", "Add it, or marks on such findings count as false."
    ),
    "patients-unknown": Code(
        "notice",
        "It is not known which scans are of one patient; each was split by itself.",
        "Supply a table of patients (--patients): else a patient may be on two sides.",
    ),
    "split-leaks": Code("refusal", "A patient is on two sides of a split.", "Correct the table of splits."),
    "shards-differ": Code(
        "refusal", "The folder holds shards that were made with other options.", "Choose another folder."
    ),
    "shard-damaged": Code(
        "refusal",
        "A prepared shard or its index is missing or not what it was.",
        "Run `lungscreen data prepare` again.",
    ),
    "shard-remade": Code("notice", "A shard was damaged or out of date and was made again.", "Nothing."),
    "table-unreadable": Code(
        "refusal", "A table is no CSV text, damaged, or too large.", "Write it anew as UTF-8 CSV."
    ),
    "table-empty": Code("refusal", "A table has no row at all.", "Check how the file was made."),
    "table-column-missing": Code(
        "refusal", "A table lacks a column that is needed.", "Name the columns as documented."
    ),
    "table-value-invalid": Code(
        "refusal", "A cell is empty, no finite number or out of range, or a row has missing cells.", "Correct that row."
    ),
    "table-extra-cells": Code(
        "notice", "Rows have more cells than the header; the surplus was not read.", "Check how the table was made."
    ),
    "series-duplicate": Code(
        "refusal", "A series stands twice in the list of scans, which would change the divisor.", "List each scan once."
    ),
    "series-none-match": Code(
        "refusal",
        "No row of a table belongs to any listed series.",
        "Check that all tables name the scans in the same way.",
    ),
    "series-not-listed": Code(
        "notice", "Rows of series that are not in the list of scans were left out.", "Check that the list is complete."
    ),
    "annotations-duplicate": Code("refusal", "A nodule is annotated twice, cell by cell.", "Remove the repeated rows."),
    "marks-duplicate": Code(
        "notice", "Some marks repeat another one exactly; each was counted.", "Check how the candidates were joined."
    ),
    "predictions-duplicate": Code(
        "refusal", "A case stands twice in a table of predictions.", "Give each case one row."
    ),
    "rows-unlabelled": Code(
        "notice", "Rows of a table have no label and were left out.", "Check that they are meant to be undecided."
    ),
    "marks-cut": Code(
        "notice", "Marks beyond the allowed number of a scan were left out.", "Lift the limit with --max-marks none."
    ),
    "variant-left-out": Code(
        "notice",
        "A scan was left out of one variant of a robustness table, since that variant cannot be made of it.",
        "Compare the variant with the same scans as they are (the figures in brackets).",
    ),
    "variant-refused": Code(
        "notice",
        "The search refused a changed scan: its nodules count as missed.",
        "Look up the code that is named; the scan as it is may be read all the same.",
    ),
    "figures-undefined": Code(
        "notice", "A figure cannot be computed from these data and is left empty (null).", "Read the notice's reason."
    ),
    "picture-missing": Code(
        "notice", "A plot or picture could not be drawn.", "Install matplotlib, or check the images that were given."
    ),
}
"""All codes, by name; each stage's part stands under its own heading."""
