"""How the node names its implementation to its peers (PS3.7 D.3.3.2)."""

from __future__ import annotations

from pynetdicom import AE

from dicom_node.values.equipment import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME


def name_implementation(entity: AE) -> None:
    """Let an application entity ask for and accept associations under the node's own name, not its library's."""
    entity.implementation_class_uid = IMPLEMENTATION_CLASS_UID
    entity.implementation_version_name = IMPLEMENTATION_VERSION_NAME
