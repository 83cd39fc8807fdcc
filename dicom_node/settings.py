"""settings.toml as one frozen, typed object. Unknown keys are errors; nothing below reads files or environment."""

from __future__ import annotations

import ipaddress
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    Field,
    PrivateAttr,
    ValidationError,
    field_validator,
    model_validator,
)

from dicom_node.destination_settings import (
    AnyDestination,
    Destination,
    DestinationSettings,
    WebDestination,
    without_way,
)
from dicom_node.reasons import SETTINGS_INVALID, SETTINGS_MISSING, SETTINGS_UNREADABLE, SettingsError
from dicom_node.rule_settings import Rule
from dicom_node.settings_section import SEG_AND_SURFACE, AeTitle, ObjectNames, Port, Section
from dicom_node.values.object_kinds import OBJECT_KINDS
from dicom_node.values.results import ObjectKind

__all__ = [
    "AnyDestination",
    "Destination",
    "RenamedKey",
    "ResultSettings",
    "Rule",
    "Settings",
    "WebDestination",
    "load_settings",
]

SeriesNumber = Annotated[int, Field(ge=1, le=2**31 - 1)]

ANCHOR_NAME = "audit.head"


@dataclass(frozen=True, slots=True)
class RenamedKey:
    """A key that a settings file holds under its old name. table: such as "listen" or "destinations.0"."""

    table: str
    old: str
    new: str

    def __str__(self) -> str:
        return f"{self.table}.{self.old} is called {self.table}.{self.new} now; the old name will not be taken for long"


class NodeSettings(Section):
    """Who the node is and where it keeps things."""

    data_folder: Path = Path("/var/lib/dissm-node")
    database_url: str | None = None
    """None: sqlite in the data folder."""
    bundle: Path | None = None
    """None: the bundle that ships with the engine."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    @field_validator("database_url")
    @classmethod
    def _is_a_database(cls, url: str | None) -> str | None:
        if url is not None:
            # Only who names a database waits for SQLAlchemy to be imported.
            from dicom_node.catalog.database_url import check_database_url

            check_database_url(url)
        return url

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

    renamed_keys: ClassVar[Mapping[str, str]] = {
        "maximum_associations": "max_associations",
        "maximum_pdu": "max_pdu_bytes",
        "largest_instance_mb": "max_instance_mb",
        "largest_series_mb": "max_series_mb",
    }

    ae_title: AeTitle = "DISSM"
    address: str = "127.0.0.1"
    port: Port = 11112
    calling_ae_titles: tuple[str, ...] = ()
    """Who may send; empty allows everybody on loopback only."""
    calling_addresses: tuple[str, ...] = ()
    max_associations: int = Field(10, ge=1, le=200)
    max_pdu_bytes: int = Field(131072, ge=4096, le=131072)
    idle_seconds: float = Field(60, gt=0)
    disk_watermark_mb: int = Field(2048, ge=0)
    max_instance_mb: int = Field(256, ge=1)
    max_series_mb: int = Field(8192, ge=1)
    other_sop_classes: Literal["refuse", "discard"] = "refuse"
    sync: bool = True
    """fsync before Success. Off only for measuring what it costs."""

    @field_validator("calling_addresses")
    @classmethod
    def _are_addresses(cls, entries: tuple[str, ...]) -> tuple[str, ...]:
        for entry in entries:
            try:
                ipaddress.ip_network(entry, strict=False)
            except ValueError as problem:
                raise ValueError(f"holds {entry!r}, which is no address and no network") from problem
        return entries


class SenderSettings(Section):
    """Quiet times of one sender, where they differ from everybody's."""

    calling_ae_title: AeTitle
    quiet_seconds: float | None = Field(None, gt=0)
    study_quiet_seconds: float | None = Field(None, ge=0)


class AssembleSettings(Section):
    """When a series is complete and what geometry is accepted (C3)."""

    renamed_keys: ClassVar[Mapping[str, str]] = {
        "hard_cap_seconds": "max_receiving_seconds",
        "least_slices": "min_slices",
        "least_extent_mm": "min_extent_mm",
        "most_spacing_mm": "max_spacing_mm",
    }

    quiet_seconds: float = Field(30, gt=0)
    study_quiet_seconds: float = Field(60, ge=0)
    """So long nothing of a study may have come before one of its series is chosen."""
    max_receiving_seconds: float = Field(3600, gt=0)
    gantry_tilt: Literal["refuse", "resample"] = "refuse"
    min_slices: int = Field(20, ge=2)
    min_extent_mm: float = Field(120, gt=0)
    max_spacing_mm: float = Field(8, gt=0)
    senders: tuple[SenderSettings, ...] = ()

    @field_validator("senders")
    @classmethod
    def _titles_differ(cls, senders: tuple[SenderSettings, ...]) -> tuple[SenderSettings, ...]:
        if len({sender.calling_ae_title.strip() for sender in senders}) < len(senders):
            raise ValueError("two senders have the same calling_ae_title")
        return senders

    def quiet_seconds_of(self, calling_ae: str) -> float:
        """The quiet time of a series, seconds."""
        sender = self._sender(calling_ae)
        return self.quiet_seconds if sender is None or sender.quiet_seconds is None else sender.quiet_seconds

    def study_quiet_seconds_of(self, calling_ae: str) -> float:
        """The quiet time of a study, as far as this sender brought it, seconds."""
        sender = self._sender(calling_ae)
        if sender is None or sender.study_quiet_seconds is None:
            return self.study_quiet_seconds
        return sender.study_quiet_seconds

    def _sender(self, calling_ae: str) -> SenderSettings | None:
        return next((one for one in self.senders if one.calling_ae_title.strip() == calling_ae.strip()), None)


class AdmitSettings(Section):
    """Which series are processed (C4)."""

    phase: Literal["venous", "any"] = "venous"
    phase_unknown: Literal["process", "refuse"] = "process"
    derived: Literal["refuse", "allow"] = "refuse"
    process_all: bool = False
    rules: tuple[Rule, ...] = ()


class WorkSettings(Section):
    """The workers."""

    renamed_keys: ClassVar[Mapping[str, str]] = {
        "attempts": "max_attempts",
    }

    workers: int = Field(1, ge=0, le=16)
    threads: int = Field(2, ge=1)
    device: Literal["cpu", "cuda"] = "cpu"
    max_attempts: int = Field(3, ge=1)
    """A case that lost so many workers is parked."""
    lease_seconds: float = Field(120, gt=1)
    stalled_minutes: float = Field(30, gt=0)
    """A case that makes no progress for so long ends its worker (C10)."""


class ResultSettings(Section):
    """What is made of a delineation (C5-C8)."""

    objects: ObjectNames = SEG_AND_SURFACE
    """Made of every case, beside what destinations name. A SEG is always made: the others are proven against it."""
    seg_frames: Literal["all", "liver"] = "all"
    surface: bool = True
    """False: no Surface Segmentation, whatever `objects` say."""
    send_rejected: bool = False
    series_number: SeriesNumber = 9100
    """Each kind's series has this number and the kind's own offset (`OBJECT_KINDS`)."""
    seg_series_number: SeriesNumber | None = None
    surface_series_number: SeriesNumber | None = None
    rejection_note_series_number: SeriesNumber = 9199

    @property
    def series_numbers(self) -> Mapping[ObjectKind, int]:
        """The number of each kind's series, all different."""
        numbers = {kind: self.series_number + facts.series_offset for kind, facts in OBJECT_KINDS.items()}
        own = {ObjectKind.SEG: self.seg_series_number, ObjectKind.SURFACE: self.surface_series_number}
        return numbers | {kind: number for kind, number in own.items() if number is not None}

    def objects_made(self, wanted_elsewhere: Iterable[ObjectKind] = ()) -> tuple[ObjectKind, ...]:
        """The kinds made of every case, in the order in which they are written."""
        named = {ObjectKind.SEG, *self.objects, *wanted_elsewhere}
        if not self.surface:
            named.discard(ObjectKind.SURFACE)
        return tuple(kind for kind in OBJECT_KINDS if kind in named)

    @model_validator(mode="after")
    def _numbers_differ(self) -> Self:
        kinds: dict[int, ObjectKind] = {self.rejection_note_series_number: ObjectKind.REJECTION_NOTE}
        for kind, number in self.series_numbers.items():
            if number in kinds:
                raise ValueError(f"the series numbers of {kinds[number]} and {kind} are equal ({number})")
            kinds[number] = kind
        return self


class Settings(Section):
    """The whole of settings.toml."""

    node: NodeSettings = NodeSettings()
    listen: ListenSettings = ListenSettings()
    assemble: AssembleSettings = AssembleSettings()
    admit: AdmitSettings = AdmitSettings()
    work: WorkSettings = WorkSettings()
    results: ResultSettings = ResultSettings()
    destinations: tuple[AnyDestination, ...] = ()
    _renamed: tuple[RenamedKey, ...] = PrivateAttr(default=())

    @property
    def renamed(self) -> tuple[RenamedKey, ...]:
        """The keys that the settings file holds under their old names."""
        return self._renamed

    @field_validator("destinations")
    @classmethod
    def _names_differ(cls, destinations: tuple[AnyDestination, ...]) -> tuple[AnyDestination, ...]:
        if len({destination.name for destination in destinations}) < len(destinations):
            raise ValueError("two destinations have the same name")
        return destinations

    @property
    def objects_made(self) -> tuple[ObjectKind, ...]:
        """The kinds made of every case: what `results` and the destinations name, and the SEG."""
        return self.results.objects_made(kind for each in self.destinations for kind in each.objects)

    @model_validator(mode="after")
    def _every_destination_gets_something(self) -> Self:
        for destination in self.destinations:
            if not set(self.objects_made) & set(destination.objects):
                raise ValueError(f"destination {destination.name} wants no object that is made (see results.surface)")
        return self


def load_settings(file: Path) -> Settings:
    """Read and check settings.toml. Keys under old names are taken and listed in `Settings.renamed`.

    Raises:
        SettingsError: The file cannot be used; names the file, the key as it stands there, and the problem.
    """
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as problem:
        raise SettingsError(SETTINGS_MISSING, file=file) from problem
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as problem:
        raise SettingsError(SETTINGS_UNREADABLE, file=file, problem=problem) from problem
    renamed = tuple(_renamed_keys(content))
    try:
        settings = Settings.model_validate(content)
    except ValidationError as problem:
        first: Any = problem.errors()[0]
        key = ".".join(str(part) for part in without_way(first["loc"])) or "the settings"
        key = next((f"{each.table}.{each.old}" for each in renamed if key == f"{each.table}.{each.new}"), key)
        raise SettingsError(SETTINGS_INVALID, file=file, key=key, problem=_problem_of(first)) from problem
    settings._renamed = renamed
    return settings


def _renamed_keys(content: Mapping[str, Any]) -> Iterator[RenamedKey]:
    """What of a settings file, not checked yet, stands there under an old name."""
    tables: dict[str, tuple[type[Section], object]] = {
        "listen": (ListenSettings, content.get("listen")),
        "assemble": (AssembleSettings, content.get("assemble")),
        "work": (WorkSettings, content.get("work")),
    }
    destinations = content.get("destinations")
    for number, destination in enumerate(destinations if isinstance(destinations, list) else ()):
        tables[f"destinations.{number}"] = (DestinationSettings, destination)
    for name, (section, table) in tables.items():
        if isinstance(table, dict):
            yield from (RenamedKey(name, old, new) for old, new in section.renamed_keys.items() if old in table)


def _problem_of(error: Any) -> str:
    if error["type"] == "extra_forbidden":
        return "is not a known key"
    if error["type"] == "missing":
        return "is missing"
    if error["type"] == "value_error":
        return f"is wrong: {error['ctx']['error']}"
    return f"is {error['input']!r}: {error['msg']}"
