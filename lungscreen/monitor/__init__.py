"""After deployment: results folders and signed reads ─► performance over time, with control charts.

nights: what the software says of the studies; needs no reader.
reads: CAD against the people who read, by the pipeline that read the study.
"""

from lungscreen.monitor.figures import describe_performance
from lungscreen.monitor.nights import read_nights
from lungscreen.monitor.outcomes import SignedStudy, StudyOutcome
from lungscreen.monitor.write import write_monitor

__all__ = ["SignedStudy", "StudyOutcome", "describe_performance", "read_nights", "write_monitor"]
