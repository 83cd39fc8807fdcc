"""Who proves each kind of object beside SEG and surface, which `proof` measures against each other.

A prover shares no code with its kind's writer but pydicom and numpy (a contract of the imports).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from dicom_node.results.captures.capture_proof import prove_captures
from dicom_node.results.proof_request import ProofRequest, ProvenMask
from dicom_node.results.rtstruct_proof import prove_rtstruct
from dicom_node.results.sr_proof import prove_sr
from dicom_node.results.stl_proof import prove_stl
from dicom_node.values.facts import Facts
from dicom_node.values.results import ObjectKind

Prover = Callable[[ProofRequest, ProvenMask], Facts]
"""Reads the kind's files back and returns what it measured. Raises ProofError."""

PROVERS: Mapping[ObjectKind, Prover] = {
    ObjectKind.CAPTURE: prove_captures,
    ObjectKind.SR: prove_sr,
    ObjectKind.RTSTRUCT: prove_rtstruct,
    ObjectKind.STL: prove_stl,
}
