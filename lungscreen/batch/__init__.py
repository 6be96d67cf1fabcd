"""inputs ─► Index ─► Ledger ─► workers ─► studies/<key>/, worklist, morning page: nothing lost, nothing twice.

index       which files, which study           ledger      one row a study, without names
scanner     looks at the inputs, or watches    study       one study, from its files to its results
engines     where tasks are carried out        workers     processes of this machine
parcel      a study that was read, on its way to the networks
ray_engine  workers on the nodes of a Ray cluster, which ray_cluster talks to
supervisor  the night itself                   run         opens what a night needs, and closes it
screen      a batch of a handful, in this process
night       the morning page                   drift       tonight against the nights before
parts       several ledgers, one status and page
metrics     for node_exporter                  audit       who ran what, when, with which weights
machine     cores and memory, shared out       lock        one run at a time on an `--out`
"""

from lungscreen.batch.config import BatchConfig
from lungscreen.batch.engines import Models, shipped_models
from lungscreen.batch.run import BatchRun, Ended, run_batch

__all__ = ["BatchConfig", "BatchRun", "Ended", "Models", "run_batch", "shipped_models"]
