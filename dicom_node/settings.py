"""settings.toml as one frozen, typed object. Unknown keys are errors; nothing below reads files or environment."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from dicom_node.reasons import SETTINGS_INVALID, SETTINGS_UNREADABLE, SettingsError

AeTitle = Annotated[str, Field(pattern=r"^[\x20-\x5B\x5D-\x7E]{1,16}$")]
Port = Annotated[int, Field(ge=1, le=65535)]

ANCHOR_NAME = "audit.head"


class Section(BaseModel):
    """A table of settings.toml: frozen, and unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class NodeSettings(Section):
    """Who the node is and where it keeps things."""

    data_folder: Path = Path("/var/lib/dissm-node")
    database_url: str | None = None
    """None: sqlite in the data folder."""
    bundle: Path | None = None
    """None: the bundle that ships with the engine."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    @property
    def catalog_url(self) -> str:
        """Where the catalogue is."""
        return self.database_url or f"sqlite:///{self.data_folder.absolute() / 'catalog.sqlite'}"

    @property
    def audit_anchor(self) -> Path:
        """The file outside the database that remembers the audit chain's head (C10)."""
        return self.data_folder / ANCHOR_NAME

    @property
    def spool(self) -> Path:
        """Where received bytes and result objects lie."""
        return self.data_folder / "spool"


class ListenSettings(Section):
    """The Storage SCP."""

    ae_title: AeTitle = "DISSM"
    address: str = "127.0.0.1"
    port: Port = 11112
    calling_ae_titles: tuple[str, ...] = ()
    """Who may send; empty allows everybody on loopback only."""
    calling_addresses: tuple[str, ...] = ()
    maximum_associations: int = Field(10, ge=1, le=200)
    maximum_pdu: int = Field(131072, ge=4096, le=131072)
    idle_seconds: float = Field(60, gt=0)
    disk_watermark_mb: int = Field(2048, ge=0)
    other_sop_classes: Literal["refuse", "discard"] = "refuse"
    sync: bool = True
    """fsync before Success. Off only for measuring what it costs."""


class AssembleSettings(Section):
    """When a series is complete and what geometry is accepted (C3)."""

    quiet_seconds: float = Field(30, gt=0)
    hard_cap_seconds: float = Field(3600, gt=0)
    gantry_tilt: Literal["refuse", "resample"] = "refuse"
    least_slices: int = Field(20, ge=2)
    least_extent_mm: float = Field(120, gt=0)
    most_spacing_mm: float = Field(8, gt=0)


class Rule(Section):
    """One eligibility rule over a DICOM attribute (C4). A missing attribute is unknown, neither true nor false."""

    name: str
    attribute: str
    operator: Literal["equals", "one_of", "regex", "range", "exists"]
    value: str | float | bool | tuple[str, ...] | tuple[float, float] | None = None
    unknown: Literal["admit", "refuse"] = "admit"
    negate: bool = False


class AdmitSettings(Section):
    """Which series are processed (C4)."""

    phase: Literal["venous", "any"] = "venous"
    phase_unknown: Literal["process", "refuse"] = "process"
    derived: Literal["refuse", "allow"] = "refuse"
    process_all: bool = False
    rules: tuple[Rule, ...] = ()


class WorkSettings(Section):
    """The workers."""

    workers: int = Field(1, ge=0, le=16)
    threads: int = Field(2, ge=1)
    device: Literal["cpu", "cuda"] = "cpu"
    attempts: int = Field(3, ge=1)
    lease_seconds: float = Field(120, gt=1)


class ResultSettings(Section):
    """What is made of a delineation (C5-C8)."""

    seg_frames: Literal["all", "liver"] = "all"
    surface: bool = True
    send_rejected: bool = False
    seg_series_number: int = 9101
    surface_series_number: int = 9102


class Destination(Section):
    """Where results go."""

    name: str = Field(pattern=r"^[a-z0-9_-]{1,32}$")
    ae_title: AeTitle
    host: str
    port: Port
    calling_ae_title: AeTitle = "DISSM"
    objects: tuple[Literal["seg", "surface"], ...] = ("seg", "surface")
    timeout_seconds: float = Field(30, gt=0)
    first_retry_seconds: float = Field(10, gt=0)
    longest_retry_seconds: float = Field(1800, gt=0)


class Settings(Section):
    """The whole of settings.toml."""

    node: NodeSettings = NodeSettings()
    listen: ListenSettings = ListenSettings()
    assemble: AssembleSettings = AssembleSettings()
    admit: AdmitSettings = AdmitSettings()
    work: WorkSettings = WorkSettings()
    results: ResultSettings = ResultSettings()
    destinations: tuple[Destination, ...] = ()

    @field_validator("destinations")
    @classmethod
    def _names_differ(cls, destinations: tuple[Destination, ...]) -> tuple[Destination, ...]:
        if len({destination.name for destination in destinations}) < len(destinations):
            raise ValueError("two destinations have the same name")
        return destinations


def load_settings(file: Path) -> Settings:
    """Read and check settings.toml. Raises SettingsError that names the file, the key and the problem."""
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as problem:
        raise SettingsError(SETTINGS_UNREADABLE, file=file, problem=problem) from problem
    try:
        return Settings.model_validate(content)
    except ValidationError as problem:
        first = problem.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        said = "is not a known key" if first["type"] == "extra_forbidden" else f"is {first['input']!r}: {first['msg']}"
        raise SettingsError(SETTINGS_INVALID, file=file, key=key, problem=said) from problem
