"""Every reason the node can give, each declared once: code, sentence, what to do.

`docs/operations.md`, `dissm-node explain`, the audit rows and the tests all read these lines.
"""

from __future__ import annotations

import math
import traceback
from collections.abc import Mapping
from pathlib import Path

from dissm_engine.errors import DissmError, Reason, all_reasons


class NodeError(DissmError):
    """Base of the node's own errors."""


class SettingsError(NodeError):
    """settings.toml cannot be used."""


class CatalogError(NodeError):
    """The database cannot be opened, or its audit chain is broken."""


class CatalogUnavailableError(CatalogError):
    """The database took no statement: its disk is full, its tables are of another release, it is locked, or gone."""


class RefusalError(NodeError):
    """A series, stack or case that is not processed, with its reason."""


class ProofError(NodeError):
    """An object that does not lie where the CT lies, or is not what the engine found."""


def plain_facts(problem: DissmError) -> dict[str, str | int | float | bool | None]:
    """The error's facts as JSON can hold them, for the case table and the audit."""
    return {name: _plain(value) for name, value in problem.facts.items()}


def kind_and_place(problem: BaseException) -> str:
    """The kind of an error that nobody foresaw and the line it came from, never its text."""
    place = traceback.extract_tb(problem.__traceback__)[-1:]
    return type(problem).__name__ + "".join(f" in {Path(frame.filename).name}:{frame.lineno}" for frame in place)


def _plain(value: object) -> str | int | float | bool | None:
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return float(value)
    return str(value)


# Settings and the node itself
SETTINGS_UNREADABLE = Reason("SETTINGS_UNREADABLE", "{file}: {problem}", "correct the file, then run dissm-node check")
SETTINGS_MISSING = Reason(
    "SETTINGS_MISSING", "there is no settings file {file}", "name it by --settings, or run where it lies"
)
SETTINGS_INVALID = Reason("SETTINGS_INVALID", "{file}: {key} {problem}", "correct the key, then run dissm-node check")
CANNOT_LISTEN = Reason(
    "CANNOT_LISTEN",
    "port {port} on {address} cannot be listened on: {problem}",
    "listen.address must be an address of this machine; a port below 1024 needs the right to it",
)
PORT_IN_USE = Reason(
    "PORT_IN_USE", "port {port} on {address} is in use", "stop the other program or change listen.port"
)
DATABASE_UNUSABLE = Reason(
    "DATABASE_UNUSABLE", "the database {database} cannot be used: {problem}", "look at node.data_folder and its rights"
)
DATABASE_UNAVAILABLE = Reason(
    "DATABASE_UNAVAILABLE", "the database cannot be used: {problem}", "look at its disk, and at who else holds it"
)
DATABASE_OF_OTHER_RELEASE = Reason(
    "DATABASE_OF_OTHER_RELEASE",
    "the database has the tables of another release (schema {found}, this release has {expected})",
    "start the node, which brings older tables up to date; the audit commands read the database as it is",
)
NEVER_STARTED = Reason(
    "NEVER_STARTED",
    "there is no database {database}: the node was never started with these settings",
    "start it, or name the right file by --settings; a relative node.data_folder counts from where the command runs",
)
DRIVER_MISSING = Reason(
    "DRIVER_MISSING", "the driver of {database} is not installed: {problem}", "pip install it beside dissm-node"
)
FILE_UNUSABLE = Reason(
    "FILE_UNUSABLE", "{file}: {problem}", "name another file or folder, or give this user the right to it"
)
AUDIT_BROKEN = Reason(
    "AUDIT_BROKEN",
    "the audit chain is broken: {problem}",
    "run dissm-node audit verify, keep the database as it is; after a restore put the audit.head of the same backup "
    "beside it, or move a newer one away",
)
CHILD_UNUSABLE = Reason(
    "CHILD_UNUSABLE", "the {child} process cannot work: {problem}", "correct it, then run dissm-node check"
)
NODE_RUNNING = Reason(
    "NODE_RUNNING", "another node runs on {folder}", "stop it first, or give this one its own node.data_folder"
)
NODE_NOT_UP = Reason("NODE_NOT_UP", "the node did not come up: {problem}", "run dissm-node check")
DEMO_SEND_FAILED = Reason("DEMO_SEND_FAILED", "the demo could not send its CT: {problem}", "report this")
NOT_FOUND = Reason("NOT_FOUND", "there is no {kind} {name}", "see dissm-node cases")
NO_SUCH_SERIES = Reason("NO_SUCH_SERIES", "there is no series {name}", "see dissm-node series")
SERIES_NOT_RETRIABLE = Reason(
    "SERIES_NOT_RETRIABLE",
    "the series {name} is {state}",
    "only a REFUSED series can be decided again; name its case to retry that",
)
NOT_RETRIABLE = Reason(
    "NOT_RETRIABLE",
    "case {case} is {state}",
    "only REFUSED, HELD, PARKED or FAILED cases, and those nothing was sent of, can be retried",
)
FORBIDDEN_TRANSITION = Reason(
    "FORBIDDEN_TRANSITION", "{what} in state {state} cannot take {event}", "report this; the catalogue was not changed"
)

# Geometry of a series (C3)
NOT_A_CT = Reason("NOT_A_CT", "the objects are {sop_class}, not CT Image Storage", "route only CT to this node")
ENHANCED_MULTIFRAME = Reason(
    "ENHANCED_MULTIFRAME", "the series is an enhanced multi-frame CT", "send it as single-frame CT Image Storage"
)
UNREADABLE_HEADER = Reason(
    "UNREADABLE_HEADER", "instance {instance} cannot be read: {problem}", "send the series again"
)
NO_FRAME_OF_REFERENCE = Reason(
    "NO_FRAME_OF_REFERENCE",
    "the images have no FrameOfReferenceUID",
    "results could not be placed; fix the source, then send the series again",
)
MIXED_FRAMES_OF_REFERENCE = Reason(
    "MIXED_FRAMES_OF_REFERENCE", "one stack holds {count} frames of reference", "split the series at its source"
)
NO_POSITIONS = Reason(
    "NO_POSITIONS", "{count} images have no position or orientation", "send original axial images, not captures"
)
ORIENTATION_NOT_ORTHONORMAL = Reason(
    "ORIENTATION_NOT_ORTHONORMAL", "the row and column directions are not orthonormal ({error:.4f})", "fix the source"
)
MIXED_ORIENTATION = Reason("MIXED_ORIENTATION", "images of one stack differ in orientation", "split the series")
MIXED_SIZE = Reason("MIXED_SIZE", "images of one stack differ in matrix or pixel spacing", "split the series")
POSITION_CLASH = Reason(
    "POSITION_CLASH", "{count} positions are taken by more than one image", "split the series by acquisition"
)
GAP = Reason(
    "GEOMETRY_GAP",
    "slices are missing between {before:.1f} mm and {after:.1f} mm",
    "send the whole series again; look at the source's queue",
)
UNEVEN_SPACING = Reason(
    "UNEVEN_SPACING", "slice steps run from {low:.2f} to {high:.2f} mm", "send one reconstruction with even steps"
)
GANTRY_TILT = Reason(
    "GANTRY_TILT", "the gantry is tilted by {degrees:.1f} degrees", "set assemble.gantry_tilt to resample, or untilt"
)
TOO_FEW_SLICES = Reason("TOO_FEW_SLICES", "{count} slices, at least {least} are needed", "send the whole series")
TOO_SHORT = Reason("TOO_SHORT", "the stack covers {extent:.0f} mm, at least {least:.0f} mm are needed", "send it all")
SPACING_TOO_WIDE = Reason(
    "SPACING_TOO_WIDE", "slices are {spacing:.1f} mm apart, at most {most:.1f} mm is allowed", "send a thinner series"
)
VOLUME_TOO_LARGE = Reason(
    "VOLUME_TOO_LARGE",
    "{count} images of {columns} x {rows} are more than {most} million voxels",
    "send a coarser reconstruction",
)
NOT_HOUNSFIELD = Reason("NOT_HOUNSFIELD", "pixels are not Hounsfield units: {problem}", "send the original CT images")
UNREADABLE_PIXELS = Reason("UNREADABLE_PIXELS", "pixel data cannot be decoded: {problem}", "send the series again")
UNSUPPORTED_SYNTAX = Reason(
    "UNSUPPORTED_SYNTAX", "transfer syntax {syntax} is not accepted", "send uncompressed or lossless images"
)

POSITIONS_NOT_IN_LINE = Reason(
    "POSITIONS_NOT_IN_LINE", "image positions leave a straight line by {distance:.2f} mm", "send one reconstruction"
)
TRUNCATED_FILE = Reason("TRUNCATED_FILE", "instance {instance} ends {missing} bytes too early", "send the series again")

# Receiving (C2)
NOT_DICOM = Reason("NOT_DICOM", "{count} files are not DICOM or are broken", "nothing to do unless images are missing")
NOT_AUTHORISED = Reason(
    "NOT_AUTHORISED", "{calling_ae} at {address} may not send to this node", "see listen.calling_ae_titles in settings"
)
DISK_ALMOST_FULL = Reason(
    "DISK_ALMOST_FULL", "{free_mb} MB are free, listen.disk_watermark_mb is {watermark_mb}", "make room for the spool"
)
OTHER_BYTES = Reason(
    "OTHER_BYTES",
    "an image came again in other bytes under its old SOP Instance UID",
    "the first one is used, and the content of both is compared; after the series was refused for its bytes, send it "
    "again and the new one takes its place",
)
DUPLICATE_SOP_INSTANCE_UID = Reason(
    "DUPLICATE_SOP_INSTANCE_UID",
    "two images that are not the same have one SOP Instance UID: {differs} differ",
    "the first one is used; look at what made the second one: a changed image needs a UID of its own",
)
CONTENT_NOT_COMPARED = Reason(
    "CONTENT_NOT_COMPARED",
    "an image came again in other bytes, and what they hold cannot be compared: {problem}",
    "the first one is used; after the series was refused for its bytes, send it again and the new one takes its place",
)
CLASS_MISMATCH = Reason(
    "CLASS_MISMATCH", "an image was refused: {problem}", "the sender's request and data set must name the same object"
)
SERIES_INCOMPLETE = Reason(
    "SERIES_INCOMPLETE",
    "the sender broke off or did not come to an end: images may be missing",
    "compare their number with the source's; an image that comes late makes a new result by itself",
)
LOSSY_SOURCE = Reason(
    "LOSSY_SOURCE",
    "the images were compressed with loss before they were sent",
    "compare the outline with the original images: their fine detail is gone here",
)
INSTANCE_TOO_LARGE = Reason(
    "INSTANCE_TOO_LARGE",
    "an image has {size_mb} MB, listen.max_instance_mb is {most_mb}",
    "send single-frame CT images, or raise the limit",
)
SERIES_TOO_LARGE = Reason(
    "SERIES_TOO_LARGE",
    "the series has {size_mb} MB, listen.max_series_mb is {most_mb}",
    "send a smaller reconstruction, or raise the limit",
)
STORE_FAILED = Reason("STORE_FAILED", "an image could not be stored: {problem}", "look at the disk of the spool")
NOTHING_TO_IMPORT = Reason("NOTHING_TO_IMPORT", "{source} holds no DICOM file", "name a folder or tar of DICOM files")
IMPORT_UNREADABLE = Reason("IMPORT_UNREADABLE", "{source} cannot be read: {problem}", "name a folder or tar of DICOM")

# Eligibility (C4)
MR_IMAGES = Reason("MR_IMAGES", "the images are MR, not CT", "route only CT to this node")
PET_IMAGES = Reason("PET_IMAGES", "the images are PET, not CT", "route only CT to this node")
OTHER_MODALITY = Reason("OTHER_MODALITY", "the modality is {modality}, not CT", "route only CT to this node")
OTHER_BODY_PART = Reason("OTHER_BODY_PART", "BodyPartExamined is {part}", "route only abdominal CT to this node")
LOCALIZER = Reason("LOCALIZER", "the series is a localizer", "nothing to do")
DERIVED_REFORMAT = Reason(
    "DERIVED_REFORMAT", "the series is a derived reformat", "set admit.derived to allow if it should be processed"
)
OWN_RESULT = Reason("OWN_RESULT", "the series is a result of this or another AI", "nothing to do: the loop guard works")
UNKNOWN_CHARACTER_SET = Reason(
    "UNKNOWN_CHARACTER_SET",
    "SpecificCharacterSet names no character set of DICOM",
    "correct it at the source: the patient's name could not be written into a result",
)
RULE_FAILED = Reason("RULE_FAILED", "rule {rule} said {outcome}: {seen}", "see admit.rules in settings.toml")
NOT_CHOSEN = Reason(
    "NOT_CHOSEN", "another series of the study was chosen: {chosen}", "set admit.process_all to process every one"
)
PHASE_NOT_VENOUS = Reason(
    "PHASE_NOT_VENOUS", "the contrast phase is {phase}: {evidence}", "set admit.phase to any to process every phase"
)
NO_LIVER = Reason("NO_LIVER", "no liver was found: {evidence}", "look at the series: is it an abdominal CT?")

# Work
WORKER_LOST = Reason("WORKER_LOST", "the worker stopped while it held the case", "it is tried again by itself")
LEASE_LOST = Reason("LEASE_LOST", "case {case} is no longer this worker's", "nothing to do: another one has it")
ATTEMPTS_EXHAUSTED = Reason(
    "ATTEMPTS_EXHAUSTED", "{attempts} attempts failed", "look at the log, then dissm-node retry"
)
SPOOL_DAMAGED = Reason(
    "SPOOL_DAMAGED",
    "instance {instance} in the spool is missing or changed",
    "look at the disk; send the series again, then dissm-node retry",
)
ENGINE_FAILED = Reason("ENGINE_FAILED", "the engine stopped: {problem}", "look at the log, then dissm-node retry")
UNEXPECTED_ERROR = Reason(
    "UNEXPECTED_ERROR",
    "an error that nobody foresaw stopped the case: {problem}",
    "its trace is in the log: report it; dissm-node retry tries the case again",
)
RESULT_REJECTED = Reason(
    "RESULT_REJECTED", "the engine does not trust its result: {findings}", "a person must delineate this case"
)

# Proof (C5, C6)
SEG_NOT_ON_CT = Reason("SEG_NOT_ON_CT", "the SEG read back differs from the mask: {problem}", "report this")
SURFACE_BROKEN = Reason("SURFACE_BROKEN", "the surface read back is not what was written: {problem}", "report this")
SURFACE_NOT_ON_SEG = Reason(
    "SURFACE_NOT_ON_SEG", "mesh and SEG differ by {distance:.2f} mm (allowed {allowed:.2f} mm)", "report this"
)
OBJECT_NOT_PROVEN = Reason(
    "OBJECT_NOT_PROVEN", "the {kind} read back is not what it should be: {problem}", "report this"
)

REJECTION_NOTE_WRONG = Reason(
    "REJECTION_NOTE_WRONG", "the rejection note read back is not what it must be: {problem}", "report this"
)

# Delivery
DELIVERY_REFUSED = Reason(
    "DELIVERY_REFUSED", "destination {destination} refused for good: {problem}", "fix it there, then dissm-node retry"
)
NOTHING_SENT = Reason(
    "NOTHING_SENT",
    "nothing was sent: no destination wants {kinds}",
    "correct the destinations, then dissm-node retry: what was proven is sent then",
)
OUTRANKED = Reason(
    "OUTRANKED",
    "the result of a better series of the study took its place: {chosen}",
    "dissm-node show tells what was sent and must be deleted, and where",
)
OVERTAKEN = Reason(
    "OVERTAKEN",
    "a newer revision of the series replaced this case",
    "dissm-node show tells what was sent and must be deleted, and where",
)

# Export
NOTHING_TO_EXPORT = Reason(
    "NOTHING_TO_EXPORT",
    "case {case} has no proven {wanted}",
    "name the object in results.objects or a destination, then process the series again",
)
EXPORT_SHEARED = Reason(
    "EXPORT_SHEARED",
    "the slices are shifted against each other by a gantry tilt, which the format cannot say",
    "export stl or ply, or use the DICOM objects",
)
NO_ANNOTATIONS = Reason(
    "NO_ANNOTATIONS", "{folder} holds no SEG and no RTSTRUCT", "name a folder of DICOM CTs with their annotations"
)
ANNOTATION_UNREADABLE = Reason(
    "ANNOTATION_UNREADABLE", "the annotation cannot be read: {problem}", "export it again from the program that made it"
)
ANNOTATION_WITHOUT_CT = Reason(
    "ANNOTATION_WITHOUT_CT", "the CT that the annotation refers to is not in the folder", "add the CT's images"
)
NO_LIVER_ANNOTATED = Reason(
    "NO_LIVER_ANNOTATED",
    "no segment or region has the code or the name of a liver, or several might; there are: {names}",
    "name what makes up the liver with --label, several times for a union",
)
MASK_NOT_ON_CT = Reason(
    "MASK_NOT_ON_CT", "the annotation does not lie on the CT's voxels: {problem}", "draw or export it on this CT"
)
MASK_WITH_GAPS = Reason(
    "MASK_WITH_GAPS",
    "{count} slices between the first and the last one with liver have none",
    "draw it on every slice: nothing is interpolated",
)
MASK_EMPTY = Reason("MASK_EMPTY", "the annotation encloses no voxel", "look at it in the program that made it")

ALL_REASONS: Mapping[str, Reason] = all_reasons()
"""By code, the engine's reasons among them."""
