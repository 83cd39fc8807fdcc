"""Sends files to a node by C-STORE, as a scanner would; the demo runs it as a process of its own.

python -m dicom_node.demo.sender HOST PORT AE_TITLE LIST: LIST holds one file name a line. Prints one line of JSON.
"""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from pydicom import dcmread
from pydicom.filereader import read_file_meta_info
from pynetdicom import AE
from pynetdicom.association import Association

_CALLING = "SCANNER"
_MAX_CONTEXTS = 128
"""PS3.8 9.3.2.2: an association carries no more."""


def send_files(host: str, port: int, ae_title: str, files: Sequence[Path]) -> dict[str, object]:
    """Offer every file over one association.

    Returns `seconds` and `answers`: how many files got which answer, a C-STORE status in hexadecimal or words.
    """
    started = time.perf_counter()
    offers = {file: _context_of(file) for file in files}
    entity = AE(ae_title=_CALLING)
    for sop_class, syntax in sorted(set(offers.values()))[:_MAX_CONTEXTS]:
        entity.add_requested_context(sop_class, syntax)
    association = entity.associate(host, port, ae_title=ae_title)
    answers = Counter(_offer(association, file, context) for file, context in offers.items())
    if association.is_established:
        association.release()
    return {"seconds": round(time.perf_counter() - started, 3), "answers": dict(answers)}


def _context_of(file: Path) -> tuple[str, str]:
    meta = read_file_meta_info(file)
    return str(meta.MediaStorageSOPClassUID), str(meta.TransferSyntaxUID)


def _offer(association: Association, file: Path, context: tuple[str, str]) -> str:
    accepted = {(cx.abstract_syntax, cx.transfer_syntax[0]) for cx in association.accepted_contexts}
    if not association.is_established:
        return "no association"
    if context not in accepted:
        return "class or syntax not accepted"
    answer = association.send_c_store(dcmread(file))
    return f"0x{int(answer.Status):04X}" if "Status" in answer else "no answer"


def main() -> None:
    """The process' entry."""
    host, port, ae_title, listed = sys.argv[1:]
    files = [Path(line) for line in Path(listed).read_text(encoding="utf-8").splitlines()]
    print(json.dumps(send_files(host, int(port), ae_title, files)))


if __name__ == "__main__":
    main()
