"""lungscreen reads low-dose chest CT for lung-cancer screening. For research use; not a diagnosis.

    folder ─► Series ─► Volume ─► Lungs ─► Candidate… ─► Finding… ─► Report ─► files
            series   volume    lungs     detect        classify    report

`lungscreen.pipeline` shows the whole chain on one page. Importing this package imports nothing heavy.
"""

__version__ = "0.1.0"

__all__ = ["RESEARCH_USE", "__version__"]

RESEARCH_USE = "For research use only. Not a diagnosis."
"""Stands on everything that this software writes."""
