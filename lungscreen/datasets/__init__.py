"""Collections as they are downloaded ─► shards that training reads.

LIDC-IDRI, LUNA16, any folder ─► Dataset ─► shards, splits, tables
"""

from lungscreen.datasets.collection import find_collection
from lungscreen.datasets.consensus import ConsensusConfig
from lungscreen.datasets.folder import find_folder
from lungscreen.datasets.lidc import find_lidc, read_crops
from lungscreen.datasets.luna16 import find_luna16
from lungscreen.datasets.prepare import PrepareConfig, PreparedDataset, check_shards, prepare_dataset
from lungscreen.datasets.scans import Annotation, Annotations, Dataset, DatasetScan
from lungscreen.datasets.shards import Shard, load_shard, read_index
from lungscreen.datasets.splits import SplitConfig

__all__ = [
    "Annotation",
    "Annotations",
    "ConsensusConfig",
    "Dataset",
    "DatasetScan",
    "PrepareConfig",
    "PreparedDataset",
    "Shard",
    "SplitConfig",
    "check_shards",
    "find_collection",
    "find_folder",
    "find_lidc",
    "find_luna16",
    "load_shard",
    "prepare_dataset",
    "read_crops",
    "read_index",
]
