"""A DICOMweb service: results go there by STOW-RS, earlier exams come from there by QIDO-RS and WADO-RS.

What a service does not say that it stored, it has not stored (PS3.18 10.5).

An answer of 200 says nothing yet: only an object named in ReferencedSOPSequence is there. Redirects are not followed,
and neither the environment's proxies nor its passwords are used.
"""

from __future__ import annotations

import importlib.util
import logging
import stat
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lungscreen.config import read_toml
from lungscreen.dicomfile import quiet_pydicom
from lungscreen.errors import UsageError
from lungscreen.node.arrivals import Arrivals, FullError
from lungscreen.node.config import Destination, Tls
from lungscreen.node.deliveries import Delivery, UnreachableError, dicom_status
from lungscreen.node.priors import ArchivedExam, person_tags
from lungscreen.node.retrieve import ct_series, days_before

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

__all__ = ["WebArchive", "WebRoute", "open_service"]

WAIT_S = 30.0
"""How long a service may take to connect, or to go on."""
AWAY = frozenset([*range(300, 400), 401, 403, 404, 407, 408, 425, 429, *range(500, 600)])
"""HTTP statuses that say nothing of the objects: the service is busy, elsewhere, or does not let us in."""
MOST_ROWS = 500
"""Of one answer."""
CHUNK_BYTES = 1 << 26
"""Longer requests are sent in chunks, which some services do not take."""


class WebRoute:
    """To one DICOMweb service."""

    def __init__(self, destination: Destination) -> None:
        """Errors: `config-invalid`, `extra-missing`."""
        self._service = open_service(destination)

    def store(self, objects: Sequence[Dataset]) -> Iterator[Delivery]:
        """See `lungscreen.node.send.Route`: all in one request."""
        import requests

        study_uid = str(objects[0].StudyInstanceUID)
        try:
            with quiet_pydicom():
                response = self._service.store_instances(objects, study_uid)
        except requests.HTTPError as error:
            response = _refusal(error.response)
        except requests.RequestException as error:  # its text quotes the address
            raise UnreachableError(type(error).__name__) from None
        except (ValueError, KeyError, TypeError, AttributeError):  # an answer that is none
            response = None
        stored, failed = _named_rows(response, "ReferencedSOPSequence"), _named_rows(response, "FailedSOPSequence")
        for dataset in objects:
            yield _answer(str(dataset.SOPInstanceUID), stored, failed)


class WebArchive:
    """Earlier exams from one DICOMweb service: QIDO-RS tells what there is, WADO-RS brings it."""

    def __init__(self, destination: Destination, arrivals: Arrivals) -> None:
        """Errors: `config-invalid`, `extra-missing`."""
        self._service, self._arrivals = open_service(destination), arrivals

    def find(self, patient_id: str, before: date, until: float) -> list[Dataset]:
        """See `lungscreen.node.priors.Archive`."""
        filters = {"PatientID": patient_id, "StudyDate": days_before(before), "ModalitiesInStudy": "CT"}
        with _reached(until):
            fields = [*person_tags(), "StudyInstanceUID"]
            return _rows(self._service.search_for_studies(fields=fields, search_filters=filters))

    def series_of(self, study_uid: str, until: float) -> tuple[tuple[str, int], ...]:
        """See `lungscreen.node.priors.Archive`."""
        with _reached(until):
            fields = ["SeriesInstanceUID", "Modality", "NumberOfSeriesRelatedInstances"]
            rows = self._service.search_for_series(study_uid, fields=fields, search_filters={"Modality": "CT"})
            return ct_series(_rows(rows))

    def fetch(self, exam: ArchivedExam, until: float) -> None:
        """See `lungscreen.node.priors.Archive`."""
        from pydicom import dcmwrite

        for series_uid, _ in exam.series:
            with _reached(until), quiet_pydicom():
                for dataset in self._service.iter_series(exam.study_uid, series_uid, (("application/dicom", "*"),)):
                    file = BytesIO()
                    dcmwrite(file, dataset, enforce_file_format=True)
                    self._arrivals.keep(id(self), str(dataset.SOPInstanceUID), b"", file.getvalue(), "fetched")
                    if time.monotonic() > until:
                        raise UnreachableError("no answer in time")


@contextmanager
def _reached(until: float) -> Iterator[None]:
    """What goes wrong on the way is an `UnreachableError`."""
    import requests

    if time.monotonic() > until:
        raise UnreachableError("no time left")
    try:
        yield
    except requests.HTTPError as error:
        raise UnreachableError("" if error.response is None else f"HTTP {error.response.status_code}") from None
    except (requests.RequestException, FullError, OSError) as error:
        raise UnreachableError(type(error).__name__) from None


def _rows(answer: Any) -> list[Dataset]:
    """Errors: `UnreachableError` where it is none."""
    from pydicom.dataset import Dataset

    try:
        return [Dataset.from_json(row) for row in list(answer)[:MOST_ROWS]]
    except Exception:  # an answer that is none
        raise UnreachableError("an answer that is none") from None


def open_service(destination: Destination) -> Any:
    """A client (`dicomweb_client.DICOMwebClient`). Nothing is sent yet.

    Errors: `extra-missing`; `config-invalid` where the credentials or certificates cannot be used, or others may read
    the credentials.
    """
    if importlib.util.find_spec("dicomweb_client") is None:
        raise UsageError("extra-missing", "a DICOMweb service needs dicomweb-client: pip install 'lungscreen[node]'")
    import requests
    from dicomweb_client import DICOMwebClient

    for name in ("dicomweb_client", "urllib3"):  # their lines quote addresses with patients' IDs
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    session = requests.Session()
    session.trust_env, session.max_redirects = False, 0
    session.headers["Accept"] = "application/dicom+json"
    if destination.tls:
        _use_tls(session, destination.tls)
    if destination.credentials:
        _sign_in(session, Path(destination.credentials))
    client = DICOMwebClient(destination.url.rstrip("/"), session, chunk_size=CHUNK_BYTES, timeout=WAIT_S)
    client.set_http_retry_params(retry=False)
    return client


def _use_tls(session: Any, tls: Tls) -> None:
    """Errors: `config-invalid` for a file that is not there."""
    for name in filter(None, (tls.certificate, tls.key, tls.authority)):
        if not Path(name).is_file():
            raise UsageError("config-invalid", "tls: no such file", name)
    session.verify = tls.authority or True
    session.cert = (tls.certificate, tls.key) if tls.certificate else None


def _sign_in(session: Any, file: Path) -> None:
    """Errors: `config-invalid` for credentials that are none, or that others may read."""
    given = read_toml(file)
    if stat.S_IMODE(file.stat().st_mode) & 0o077:
        raise UsageError("config-invalid", "others may read the credentials: chmod 600", str(file))
    if set(given) == {"token"}:
        session.headers["Authorization"] = f"Bearer {given['token']}"
    elif set(given) == {"user", "password"}:
        session.auth = (str(given["user"]), str(given["password"]))
    else:
        raise UsageError("config-invalid", "expected token, or user and password", str(file))


def _refusal(response: Any) -> Dataset | str:
    """What an HTTP error says of the objects: the same data set as a success, or its number alone.

    Errors: `UnreachableError`.
    """
    from pydicom.dataset import Dataset

    if response.status_code in AWAY:
        raise UnreachableError(f"HTTP {response.status_code}") from None
    try:
        return Dataset.from_json(response.json())
    except Exception:  # an answer for people
        return f"HTTP {response.status_code}"


def _named_rows(response: Any, keyword: str) -> dict[str, Dataset] | str:
    """SOP Instance UID → its row; the text where the answer is none."""
    if response is None or isinstance(response, str):
        return response or "not acknowledged"
    rows = response.get(keyword) or ()
    return {str(row.get("ReferencedSOPInstanceUID", "")): row for row in rows}


def _answer(uid: str, stored: dict[str, Dataset] | str, failed: dict[str, Dataset] | str) -> Delivery:
    if isinstance(stored, str) or isinstance(failed, str):
        return Delivery(False, "result-refused", str(stored))
    if uid in failed:
        return Delivery(False, "result-refused", _reason(failed[uid], "FailureReason"))
    if uid not in stored:
        return Delivery(False, "result-refused", "not acknowledged")
    warning = _reason(stored[uid], "WarningReason")
    return Delivery(True, "result-warned" if warning else "", warning)


def _reason(row: Dataset, keyword: str) -> str:
    value = row.get(keyword)
    return dicom_status(value) if isinstance(value, int) else ""
