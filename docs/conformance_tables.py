"""Writes the tables of the DICOM Conformance Statement (PS3.2) from what the program uses.

python docs/conformance_tables.py docs/conformance.md [--check]: with --check nothing is written and the exit code says
whether the document is current. The text between the tables is written by hand.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from pydicom.datadict import dictionary_description, dictionary_VR, tag_for_keyword
from pydicom.tag import Tag
from pydicom.uid import UID

from dicom_node.deliver.store_status import STATUS_MEANINGS
from dicom_node.dicom.character_sets import DEFINED_CHARACTER_SETS
from dicom_node.dicom.header_reading import LOSSLESS_SYNTAXES
from dicom_node.dicom.storage_server import SUCCESS, Rejection
from dicom_node.receive import association_policy as policy
from dicom_node.receive import storage_scp
from dicom_node.results.modules import PATIENT_AND_STUDY_OPTIONAL, PATIENT_AND_STUDY_TYPE_2
from dicom_node.settings import Destination, ListenSettings, ResultSettings
from dicom_node.values.equipment import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME, SOFTWARE_VERSION
from dicom_node.values.object_kinds import OBJECT_KINDS, PROFILES
from dicom_node.values.results import ObjectKind

sys.path.insert(0, str(Path(__file__).parent))
from object_attributes import NOTE_CLASS, objects_of_all_kinds, rows_of

VERIFICATION = "1.2.840.10008.1.1"
_PLACE = re.compile(r"<!-- table: (\w+) -->\n.*?<!-- end -->", re.DOTALL)


def markdown(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table in Markdown."""
    lines = ["| " + " | ".join(heads) + " |", "| " + " | ".join("---" for _ in heads) + " |"]
    lines += ["| " + " | ".join(str(cell).replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def services() -> str:
    """SOP classes and roles."""
    rows = [("Verification", VERIFICATION, "SCU, SCP", "asked by `dissm-node check`, answered by the listener")]
    rows += [(UID(uid).name, uid, "SCP", _why_accepted(uid)) for uid in storage_scp.ACCEPTED_SOP_CLASSES]
    rows += [
        (UID(facts.sop_class_uid).name, facts.sop_class_uid, "SCU", f"`{kind}`, {facts.description}")
        for kind, facts in OBJECT_KINDS.items()
    ]
    rows.append((UID(NOTE_CLASS).name, NOTE_CLASS, "SCU", "rejection note (IHE IOCM), where a destination wants it"))
    return markdown(("SOP class", "UID", "role", "of use for"), rows)


def _why_accepted(uid: str) -> str:
    is_ct = uid == storage_scp.ACCEPTED_SOP_CLASSES[0]
    return "delineation" if is_ct else "stored, then refused by the reason `ENHANCED_MULTIFRAME`"


def accepted_contexts() -> str:
    """Transfer syntaxes of the listener, each accepted with each class."""
    rows = [(UID(syntax).name, str(syntax)) for syntax in LOSSLESS_SYNTAXES]
    return markdown(("transfer syntax", "UID"), rows)


def association_acceptor() -> str:
    """Limits of the listener and their defaults."""
    default = ListenSettings()
    names = ("max_associations", "max_pdu_bytes", "idle_seconds", "max_instance_mb", "max_series_mb")
    return markdown(("setting", "default"), [(f"`listen.{name}`", f"{getattr(default, name):g}") for name in names])


def rejections() -> str:
    """A-ASSOCIATE-RJ of the listener."""
    said: Sequence[tuple[Rejection, str]] = (
        (policy.CALLED_AE_UNKNOWN, "the called AE title is not `listen.ae_title`"),
        (policy.CALLING_AE_UNKNOWN, "the calling AE title is not among `listen.calling_ae_titles`"),
        (policy.NO_REASON_PERMANENT, "the address is not among `listen.calling_addresses`"),
        (policy.TEMPORARY_CONGESTION, "the disk is below `listen.disk_watermark_mb`, or the node is stopping"),
    )
    rows = [(result, source, diagnostic, when) for (result, source, diagnostic), when in said]
    return markdown(("result", "source", "reason/diagnostic", "when"), rows)


def answered_statuses() -> str:
    """C-STORE statuses that the listener gives."""
    rows = (
        (SUCCESS, "Success", "the image is on the disk (fsync) and its row committed"),
        (storage_scp.OUT_OF_RESOURCES, "Refused", "disk below the watermark, database busy or full, node stopping"),
        (storage_scp.CLASS_DOES_NOT_MATCH, "Error", "SOP class or instance differ from the request's"),
        (storage_scp.CANNOT_UNDERSTAND, "Error", "not readable as DICOM, or larger than the limits"),
    )
    return markdown(("status", "meaning", "when"), [(f"0x{code:04X}", word, when) for code, word, when in rows])


def proposed_contexts() -> str:
    """Presentation contexts of deliveries: one for each pair of class and syntax that the objects have."""
    rows = []
    for kind, (dataset, *_) in objects_of_all_kinds().items():
        syntax = UID(dataset.file_meta.TransferSyntaxUID)
        rows.append((f"{UID(dataset.SOPClassUID).name} ({dataset.SOPClassUID})", syntax.name, syntax, f"`{kind}`"))
    return markdown(("abstract syntax", "transfer syntax", "UID", "kind"), rows)


def association_initiator() -> str:
    """Limits of deliveries and their defaults."""
    names = ("timeout_seconds", "first_retry_seconds", "max_retry_seconds", "max_failures")
    fields = Destination.model_fields
    return markdown(("setting", "default"), [(f"`destinations.{name}`", f"{fields[name].default:g}") for name in names])


def taken_statuses() -> str:
    """What the node makes of a destination's C-STORE statuses."""
    rows = [(_range(low, high), words, event.value) for low, high, event, words in STATUS_MEANINGS[:-1]]
    rows.append(("any other", STATUS_MEANINGS[-1][3], STATUS_MEANINGS[-1][2].value))
    return markdown(("status", "meaning", "event"), rows)


def _range(low: int, high: int) -> str:
    return f"0x{low:04X}" if low == high else f"0x{low:04X} to 0x{high:04X}"


def character_sets() -> str:
    """Defined terms that are understood."""
    return "none (the default repertoire), " + ", ".join(sorted(term for term in DEFINED_CHARACTER_SETS if term))


def implementation() -> str:
    """How the node names itself."""
    name = IMPLEMENTATION_VERSION_NAME.replace(SOFTWARE_VERSION, "<version>")
    rows = [("Implementation Class UID", f"`{IMPLEMENTATION_CLASS_UID}`"), ("Implementation Version Name", f"`{name}`")]
    return markdown(("name", "value"), rows)


def profiles() -> str:
    """Names of sets of objects."""
    rows = [(f"`{name}`", ", ".join(f"`{kind}`" for kind in kinds)) for name, kinds in PROFILES.items()]
    return markdown(("profile", "kinds"), rows)


def series() -> str:
    """Of each kind its series."""
    numbers, results = dict(ResultSettings().series_numbers), ResultSettings()
    kinds = {kind: facts.modality for kind, facts in OBJECT_KINDS.items()} | {ObjectKind.REJECTION_NOTE: "KO"}
    numbers[ObjectKind.REJECTION_NOTE] = results.rejection_note_series_number
    rows = [(f"`{kind}`", modality, numbers[kind]) for kind, modality in kinds.items()]
    return markdown(("kind", "modality", "series number (default)"), rows)


def patient_and_study() -> str:
    """The attributes of the patient and study modules, which all objects share."""
    always = ("StudyInstanceUID",)
    rows = [(*_named(keyword), "ALWAYS", "COPY") for keyword in always]
    rows += [(*_named(keyword), "VNAP", "COPY") for keyword in PATIENT_AND_STUDY_TYPE_2]
    optional = ("TimezoneOffsetFromUTC", *PATIENT_AND_STUDY_OPTIONAL)
    rows += [(*_named(keyword), "ANAP", "COPY") for keyword in optional]
    ordered: list[tuple[str, ...]] = sorted(rows, key=_tag_of)
    return markdown(("attribute", "tag", "VR", "presence", "source"), ordered)


def _tag_of(row: tuple[str, ...]) -> str:
    return row[1]


def _named(keyword: str) -> tuple[str, str, str]:
    tag = tag_for_keyword(keyword)
    assert tag is not None, keyword
    return dictionary_description(tag), str(Tag(tag)).replace(" ", ""), dictionary_VR(tag)


def attributes() -> str:
    """The attributes of the objects of every kind, beside those that all share."""
    parts = []
    for kind, (one, other) in objects_of_all_kinds().items():
        table = markdown(("attribute", "tag", "VR", "presence", "source", "value"), rows_of(one, other))
        parts.append(f"### {UID(one.SOPClassUID).name}, `{kind}`\n\n{table}")
    return "\n\n".join(parts)


TABLES: Mapping[str, Callable[[], str]] = {
    made.__name__: made
    for made in (
        *(services, implementation, accepted_contexts, association_acceptor, rejections, answered_statuses),
        *(proposed_contexts, association_initiator, taken_statuses, character_sets, profiles, series),
        *(patient_and_study, attributes),
    )
}


def updated(document: str) -> str:
    """The document with every table in its place. Raises ValueError where it has not one place for each table."""
    places = _PLACE.findall(document)
    if sorted(places) != sorted(TABLES):
        raise ValueError(f"the document must have one place for each of {', '.join(sorted(TABLES))}")
    return _PLACE.sub(lambda place: f"<!-- table: {place[1]} -->\n\n{TABLES[place[1]]()}\n\n<!-- end -->", document)


def main() -> int:
    """The script's entry."""
    file = Path(sys.argv[1])
    before = file.read_text(encoding="utf-8")
    after = updated(before)
    if "--check" in sys.argv:
        return int(before != after)
    file.write_text(after, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
