"""Finished study → `report.html`: one self-contained page in the order in which a radiologist reads.

No script, nothing loaded from anywhere, every foreign string escaped; a content security policy says the same to the
browser.
"""

from lungscreen.outputs.page.pieces import category_chip, study_table
from lungscreen.outputs.page.whole import html_page, report_page

__all__ = ["category_chip", "html_page", "report_page", "study_table"]
