"""Orthanc's Python plugin sends every CT series to dissm-node once nothing more of it has come for StableAge seconds.

"dissm" is the node's name in DicomModalities of Orthanc's configuration.
"""

import json

import orthanc


def send_stable_ct(change: int, _level: int, series: str) -> None:
    """Called by Orthanc at every change; one that is not a stable series of CT is not for the node."""
    if change != orthanc.ChangeType.STABLE_SERIES:
        return
    tags = json.loads(orthanc.RestApiGet(f"/series/{series}"))["MainDicomTags"]
    if tags.get("Modality") == "CT":
        orthanc.RestApiPost("/modalities/dissm/store", json.dumps({"Asynchronous": True, "Resources": [series]}))


orthanc.RegisterOnChangeCallback(send_stable_ct)
