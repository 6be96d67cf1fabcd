"""inputs ─► files (size, time, header) ─► studies ─► Offers to the ledger. The one file of a night with paths and UIDs.

A second look costs a `stat` a file: only what is new, or has another size or time, is opened. What vanished leaves the
index but takes no result with it; an input that is away (an unmounted share) is left as it was.

visit      one look at the inputs                  files      what is known of places, folders and files
studies    whose files they are, and whether new   refusals   what was not read
schema     the tables                              catalogue  the open index, which has all of them
"""

from lungscreen.batch.index.catalogue import Index
from lungscreen.batch.index.files import Turn
from lungscreen.batch.index.schema import INDEX_FILE
from lungscreen.batch.index.studies import URGENT_FOLDER
from lungscreen.batch.index.visit import Scan

__all__ = ["INDEX_FILE", "URGENT_FOLDER", "Index", "Scan", "Turn"]
