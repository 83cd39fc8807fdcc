"""One delineated CT with its result objects on disk, as a worker leaves them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pydicom

from dicom_node.assemble.volume import read_volume
from dicom_node.results.proof import prove
from dicom_node.results.proof_request import ProofRequest
from dicom_node.results.write import write_results
from dicom_node.settings import ResultSettings
from dicom_node.values.ct_stack import CtStack
from dicom_node.values.phase import Phase, PhaseVerdict
from dicom_node.values.results import Proof, WrittenObject
from dissm_engine.delineation import Delineation
from dissm_engine.volume import Volume
from tests.builders.analytic import ellipsoid_delineation
from tests.builders.ct_series import SeriesOptions, image_header, write_ct_series

INPUT_DIGEST = "cd" * 32
CREATED_AT = datetime(2026, 3, 4, 5, 6, 7, 890000)


@dataclass(frozen=True)
class ResultCase:
    """A stack, what an engine found in it, and the two files."""

    stack: CtStack
    delineation: Delineation
    written: tuple[WrittenObject, ...]

    @property
    def seg(self) -> Path:
        return self.written[0].path

    @property
    def surface(self) -> Path:
        return self.written[1].path

    def prove(self) -> Proof:
        return prove(self.request())

    def request(self) -> ProofRequest:
        return ProofRequest(self.stack, self.delineation, ProofRequest.files_of(self.written), phase=Phase.VENOUS)


def case_on_disk(folder: Path, volume: Volume, settings: ResultSettings | None = None, **options: Any) -> ResultCase:
    """The whole way: CT files in shuffled order, read as the node reads them, delineated, written."""
    paths = write_ct_series(folder / "ct", volume, file_order="shuffled", **options)
    return written_case(folder, read_volume(sorted(paths)), settings)


def case_in_memory(folder: Path, volume: Volume, settings: ResultSettings | None = None, **options: Any) -> ResultCase:
    """The stack exactly as `volume` has it, slices against the normal or not; only the results go to disk."""
    chosen = SeriesOptions(**options)
    headers = tuple(image_header(volume, k, k + 1, chosen) for k in range(volume.grid.shape[0]))
    for header in headers:
        del header.PixelData
    return written_case(folder, CtStack(volume, headers), settings)


def written_case(
    folder: Path, stack: CtStack, settings: ResultSettings | None = None, delineation: Delineation | None = None
) -> ResultCase:
    found = delineation or ellipsoid_delineation(stack.volume.grid)
    written = write_results(
        stack,
        found,
        settings or ResultSettings(),
        folder,
        input_digest=INPUT_DIGEST,
        created_at=CREATED_AT,
        phase=PhaseVerdict(Phase.VENOUS, "said by the test"),
    )
    return ResultCase(stack, found, written)


def edited(path: Path, edit: Any) -> None:
    """Tamper with an object in place."""
    dataset = pydicom.dcmread(path)
    edit(dataset)
    dataset.save_as(path)
