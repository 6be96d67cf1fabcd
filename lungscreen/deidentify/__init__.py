"""CT series ─► the same series without what names a person: for research, under the site's own key.

deidentify_dataset   one object
deidentify_inputs    folders of studies, into a folder
"""

from lungscreen.deidentify.dataset import deidentify_dataset
from lungscreen.deidentify.studies import Deidentified, deidentify_inputs

__all__ = ["Deidentified", "deidentify_dataset", "deidentify_inputs"]
