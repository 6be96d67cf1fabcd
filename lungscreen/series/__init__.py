"""Find every CT series in the input and put each study's series in the order in which to read them.

    files, folders, DICOMDIRs, zip archives ─► Inventory of Studies of Series

A header pass only: no pixel is touched, nothing is unpacked to disk, nothing is written. The batch's index takes the
same way and remembers what was seen.

files     the way through the inputs          looks     what a file is
memory    a header as short text, and back    identity  whose study it is
headers   what a CT object says               pile      all headers together
studies   studies from the pile               choice    which series is read first
stage     the whole way
"""

from lungscreen.kernels import classify_kernel
from lungscreen.series.config import SeriesConfig
from lungscreen.series.content import hash_content, hash_unchanged
from lungscreen.series.headers import read_patient
from lungscreen.series.identity import (
    Identity,
    identify,
    identify_image,
    identify_study,
    plain_name,
    whole_identities,
)
from lungscreen.series.looks import Look
from lungscreen.series.stage import find_series, find_study, group_looks, refuse_input
from lungscreen.series.studies import refuse_others

__all__ = [
    "Identity",
    "Look",
    "SeriesConfig",
    "classify_kernel",
    "find_series",
    "find_study",
    "group_looks",
    "hash_content",
    "hash_unchanged",
    "identify",
    "identify_image",
    "identify_study",
    "plain_name",
    "read_patient",
    "refuse_input",
    "refuse_others",
    "whole_identities",
]
