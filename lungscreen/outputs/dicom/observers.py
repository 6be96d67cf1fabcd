"""Who says what a structured report says: the software, and a person where one signed (TID 1002)."""

from __future__ import annotations

from datetime import UTC

from pydicom.dataset import Dataset

from lungscreen import __version__
from lungscreen.outputs.dicom import codes, items
from lungscreen.outputs.dicom.codes import dcm
from lungscreen.outputs.dicom.common import MAKER, MODEL, SignedBy, foreign_text
from lungscreen.outputs.dicom.identity import ResultIdentity
from lungscreen.outputs.dicom.items import OBSERVATION

__all__ = ["Observers", "verified_by"]


class Observers:
    """Observer contexts (TID 1002): of the report, and of a finding where a person signed."""

    def __init__(self, identity: ResultIdentity, signed: SignedBy | None = None) -> None:
        self._identity, self.signed = identity, signed

    def of_the_report(self) -> list[Dataset]:
        """The person who signed, where one did, and the software."""
        return [*(self._person(self.signed) if self.signed else []), *self._device()]

    def of_finding(self, number: int) -> list[Dataset]:
        """Whose a finding of a signed read is; nothing where all is the software's."""
        if self.signed is None:
            return []
        return self._person(self.signed) if number in self.signed.own else self._device()

    def is_own(self, number: int) -> bool:
        """Whether a person marked it without the software."""
        return self.signed is not None and number in self.signed.own

    def _device(self) -> list[Dataset]:
        return [
            items.code(OBSERVATION, codes.OBSERVER_TYPE, dcm("121007", "Device")),
            items.uid(OBSERVATION, dcm("121012", "Device Observer UID"), self._identity.uid("device")),
            items.text(OBSERVATION, dcm("121013", "Device Observer Name"), MAKER),
            items.text(OBSERVATION, dcm("121014", "Device Observer Manufacturer"), MAKER),
            items.text(OBSERVATION, dcm("121015", "Device Observer Model Name"), MODEL),
            items.text(OBSERVATION, dcm("121016", "Device Observer Serial Number"), __version__),
        ]

    @staticmethod
    def _person(signed: SignedBy) -> list[Dataset]:
        return [
            items.code(OBSERVATION, codes.OBSERVER_TYPE, dcm("121006", "Person")),
            items.person(OBSERVATION, dcm("121008", "Person Observer Name"), _person_name(signed)),
        ]


def _person_name(signed: SignedBy) -> str:
    """An account's name in the place of a family name."""
    return f"{''.join(' ' if c in '^=' else c for c in foreign_text(signed.name, 60))}^"


def verified_by(signed: SignedBy) -> Dataset:
    """An item of the Verifying Observer Sequence (PS3.3 C.17.2)."""
    item = Dataset()
    item.VerifyingObserverName = _person_name(signed)
    item.VerifyingObserverIdentificationCodeSequence = []
    item.VerifyingOrganization = foreign_text(signed.organisation, 64)
    item.VerificationDateTime = f"{signed.when.astimezone(UTC):%Y%m%d%H%M%S}+0000"
    return item
