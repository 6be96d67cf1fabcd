"""pipelines/*.toml ─► Pipeline: the settings of every stage."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path

from lungscreen.assess import AssessConfig, FusionConfig
from lungscreen.classify import ClassifyConfig
from lungscreen.comparison import ComparisonConfig
from lungscreen.config import config_hash, packaged_folder, read_table, read_toml
from lungscreen.detect import DetectConfig
from lungscreen.errors import UsageError
from lungscreen.lungs import LungsConfig
from lungscreen.measure import MeasureConfig
from lungscreen.outputs.registry import OutputsConfig
from lungscreen.pipeline.selection import FindingsConfig
from lungscreen.series import SeriesConfig
from lungscreen.volume import VolumeConfig

__all__ = ["Pipeline", "pipeline_hash", "read_pipeline"]


@dataclass(frozen=True)
class Pipeline:
    """The settings of every stage: `pipelines/*.toml`. The hash over them stands in every report."""

    name: str
    series: SeriesConfig = field(default_factory=SeriesConfig)
    volume: VolumeConfig = field(default_factory=VolumeConfig)
    lungs: LungsConfig = field(default_factory=LungsConfig)
    detect: DetectConfig = field(default_factory=DetectConfig)
    measure: MeasureConfig = field(default_factory=MeasureConfig)
    classify: ClassifyConfig = field(default_factory=ClassifyConfig)
    assess: AssessConfig = field(default_factory=AssessConfig)
    comparison: ComparisonConfig = field(default_factory=ComparisonConfig)
    findings: FindingsConfig = field(default_factory=FindingsConfig)
    fusion: FusionConfig = field(default_factory=FusionConfig)
    outputs: OutputsConfig = field(default_factory=OutputsConfig)


def pipeline_hash(pipeline: Pipeline) -> str:
    """Over all that decides what is found and said; which outputs are written does not."""
    return config_hash({name: value for name, value in asdict(pipeline).items() if name != "outputs"})


def read_pipeline(name_or_file: str) -> Pipeline:
    """A shipped pipeline by name, or any TOML file, which may leave out all that it does not change.

    A file without a name is called as it is named.
    Errors: `config-invalid`.
    """
    path = Path(name_or_file)
    if path.suffix != ".toml":
        path = packaged_folder("pipelines") / f"{path.name}.toml"
        if not path.is_file():
            raise UsageError("config-invalid", "no pipeline of that name", name_or_file)
    return read_table(Pipeline, {"name": path.stem, **read_toml(path)}, path.stem)
