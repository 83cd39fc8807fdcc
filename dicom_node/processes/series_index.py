"""Series that came before the node could look anything up, or whose key was lost, are made findable."""

from __future__ import annotations

from dicom_node.catalog.database import Recorder
from dicom_node.catalog.lookup import series_to_index, write_digests
from dicom_node.catalog.lookup_key import LookupKey
from dicom_node.reasons import NodeError
from dicom_node.receive.instance_identity import identify
from dicom_node.settings import NodeSettings

_MAX_SERIES_AT_ONCE = 50


def index_series(recorder: Recorder, node: NodeSettings) -> int:
    """Write the digests of some series that have none of the present key; how many it were. The newest come first.

    What cannot be read any more has empty digests: nobody finds it by them, and it is not read again.
    """
    key = LookupKey.of(node.data_folder)
    with recorder.read() as view:
        found = series_to_index(view, key, _MAX_SERIES_AT_ONCE)
    digests = [(one.series_id, *_digests(node, one.image.path, key)) for one in found]
    if digests:
        with recorder.write() as tx:
            write_digests(tx, digests)
    return len(digests)


def _digests(node: NodeSettings, path: str, key: LookupKey) -> tuple[str, str]:
    try:
        identity = identify((node.spool / path).read_bytes(), "indexed", key)
    except (OSError, NodeError):
        return "", ""
    return identity.patient_digest or "", identity.accession_digest or ""
