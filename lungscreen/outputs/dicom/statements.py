"""What is said of an exam in words, the same in every object that says it."""

from __future__ import annotations

from lungscreen import RESEARCH_USE
from lungscreen.outputs.dicom import codes
from lungscreen.outputs.dicom.codes import Concept
from lungscreen.outputs.dicom.common import SignedBy
from lungscreen.outputs.dicom.identity import NO_DATE, ResultIdentity
from lungscreen.results.document import ReportDocument

__all__ = ["NOT_VERIFIED", "exam_statements"]

NOT_VERIFIED = "No person has verified it."
"""Stands beside the note on research use."""
SIGNED = "A person has read the exam and signed what stands here."
"""Stands there of a signed read."""


def exam_statements(
    document: ReportDocument, identity: ResultIdentity, signed: SignedBy | None = None
) -> list[tuple[Concept, str]]:
    """Each with its name, in the order in which they are read."""
    said = [
        (codes.local("RESEARCHUSE"), f"{RESEARCH_USE} {NOT_VERIFIED if signed is None else SIGNED}"),
        (codes.local("CATEGORYTEXT"), document.category),
        (codes.local("CATEGORYREASON"), document.category_reason),
        (codes.local("FINDINGCOUNT"), str(len(document.findings))),
    ]
    if document.cut_off:
        said.append((codes.local("CUTOFFCOUNT"), str(document.cut_off)))
    said += [(codes.local("NOTASSESSED"), text) for text in document.not_assessed]
    said += [
        (codes.local("RIGHTLUNGVOLUME"), _millilitres(document.lungs.right_ml)),
        (codes.local("LEFTLUNGVOLUME"), _millilitres(document.lungs.left_ml)),
    ]
    said += [(codes.local("NOTICE"), f"{notice.code}: {notice.text}") for notice in document.notices]
    said += [(codes.local("NOTICE"), f"lost nodule: {nodule.text}") for nodule in document.lost]
    said.append((codes.COMMENT, document.validated_on))
    if identity.date == NO_DATE:
        said.append((codes.COMMENT, "The series has no date; 1 January 1900 stands in its place."))
    return [(name, text) for name, text in said if text]


def _millilitres(volume: float | None) -> str:
    return "" if volume is None else f"{volume:g} ml"
