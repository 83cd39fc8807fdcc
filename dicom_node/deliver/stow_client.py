"""The STOW-RS client: posts objects to one DICOMweb destination, one object a request (PS3.18 10.5, C8)."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence

from dicom_node.catalog.deliveries import AttemptRecord
from dicom_node.catalog.states import DeliveryEvent
from dicom_node.deliver.outgoing import OutgoingObject
from dicom_node.deliver.store_status import not_accepted, result_of_web_answer
from dicom_node.dicom.web_client import WebAnswer, WebClient, WebService
from dicom_node.settings import WebDestination


def send_by_web(
    destination: WebDestination, outgoing: Sequence[OutgoingObject]
) -> Iterator[tuple[OutgoingObject, AttemptRecord]]:
    """Post the outgoing in turn; yields every answer as it comes.

    Each object is a request of its own, so that an answer without a list is about that object. What cannot be reached,
    or answers that nothing can be stored now, is the answer to all that are left. A connection that is lost ends the
    sending: outgoing behind the one it was lost at get no answer.
    """
    left = list(outgoing)
    try:
        with WebClient(web_service(destination)) as client:
            while left:
                dataset = left[0].dataset()
                answer = client.store(dataset)
                if answer is None:
                    # Perhaps stored, perhaps not: its UID is derived, so sending it again is harmless.
                    yield left[0], AttemptRecord(DeliveryEvent.TRY_AGAIN, "no answer: outcome unknown")
                    return
                record = result_of_web_answer(answer)
                if not record.reached:
                    break
                if record.event is DeliveryEvent.NOT_ACCEPTED:
                    record = not_accepted(destination.name, dataset, record)
                yield left.pop(0), record
    except (ConnectionError, SecretError) as problem:
        # The settings may be mended, the network may come back.
        record = AttemptRecord(DeliveryEvent.TRY_AGAIN, f"no connection: {problem}", reached=False)
    yield from ((item, record) for item in left)


class SecretError(Exception):
    """The file of a token or password cannot be used; says why, without what it holds."""


def web_service(to: WebDestination) -> WebService:
    """Whom to ask, and as whom; the secret is read now.

    Raises:
        SecretError: Its file cannot be read, or holds none.
    """
    return WebService(to.url, to.timeout_seconds, _authorization(to), to.ca_file)


def ask_web_service(to: WebDestination) -> str | None:
    """Whether the service answers and lets us in, by a search for a study that does not exist; nothing is stored.

    Returns:
        What is wrong, in words without secrets; None where it answers. A service that stores and does not search
        (HTTP 404, 405, 501) cannot be told from a wrong url: that is said.
    """
    try:
        with WebClient(web_service(to)) as client:
            status = client.search()
    except (ConnectionError, SecretError) as problem:
        return str(problem)
    if status is not None and 200 <= status <= 299:
        return None
    if status in (404, 405, 501):
        return f"it does not search there (HTTP {status}): is the url right?"
    return "no answer" if status is None else result_of_web_answer(WebAnswer(status)).said


def _authorization(to: WebDestination) -> str | None:
    """The value of the header (RFC 6750 2.1, RFC 7617); the secret is the file's first line."""
    if to.secret_file is None:
        return None
    try:
        secret = to.secret_file.read_text(encoding="utf-8").split("\n", 1)[0].strip("\r")
    except (OSError, UnicodeDecodeError) as problem:
        why = problem.strerror if isinstance(problem, OSError) else "it is no text"
        raise SecretError(f"{to.secret_file} cannot be read: {why}") from problem
    if not secret:
        raise SecretError(f"{to.secret_file} is empty")
    if to.user is not None:
        return "Basic " + base64.b64encode(f"{to.user}:{secret}".encode()).decode("ascii")
    if not (secret.isascii() and secret.isprintable() and " " not in secret):
        raise SecretError(f"{to.secret_file} holds no token")
    return f"Bearer {secret}"
