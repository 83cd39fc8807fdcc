"""The client side of DICOMweb: dicomweb-client's requests, each sent once, bounded in time, to the given place only."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from xml.etree.ElementTree import ParseError

from dicomweb_client import DICOMwebClient
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid
from requests import PreparedRequest, Response, Session
from requests.exceptions import (
    ConnectTimeout,
    HTTPError,
    JSONDecodeError,
    RequestException,
    SSLError,
)
from urllib3.exceptions import MaxRetryError, NameResolutionError, NewConnectionError

from dicom_node.dicom.header_reading import PARSE_ERRORS

_WHOLE_IN_ONE = 2**40
"""Bytes up to which a body is sent with its length: not every service takes chunks."""
_PROCESSING_FAILURE = 0x0110
_ABSENT_STUDY = generate_uid(entropy_srcs=["a study that no archive has"])


@dataclass(frozen=True, slots=True)
class WebService:
    """Which service is asked, and as whom.

    authorization: the header's value; None: none is sent. ca_file: whom to trust (PEM); None: the usual authorities.
    """

    url: str
    timeout_seconds: float
    authorization: str | None = None
    ca_file: Path | None = None


@dataclass(frozen=True, slots=True)
class WebAnswer:
    """What a service answered about one instance (PS3.18 10.5.3, annex I.2).

    stored: it lists the instance as stored. warning, failure: the reasons it lists for the instance; None without.
    """

    http_status: int
    stored: bool = False
    warning: int | None = None
    failure: int | None = None


class WebClient:
    """One client of one service; use as a context manager, which closes its connections."""

    def __init__(self, service: WebService) -> None:
        self._session = _PlainSession(service)
        self._client = DICOMwebClient(
            service.url, session=self._session, chunk_size=_WHOLE_IN_ONE, timeout=service.timeout_seconds
        )
        # The outbox has a back-off of its own, which outlives the process.
        self._client.set_http_retry_params(retry=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._session.close()

    def store(self, dataset: Dataset) -> WebAnswer | None:
        """Post one instance by STOW-RS (PS3.18 10.5).

        Returns:
            The answer; None where none came, so that the instance may or may not have been stored.

        Raises:
            ConnectionError: The service cannot be reached, nothing was sent; says why, without secrets.
        """
        try:
            listed = self._client.store_instances([dataset])
        except HTTPError:
            listed = self._session.listed()
        except JSONDecodeError:
            listed = Dataset()
        except RequestException as problem:
            _raise_unless_sent(problem)
            return None
        except (*PARSE_ERRORS, ParseError):
            # An answer that is no DICOM: its HTTP status alone speaks.
            listed = Dataset()
        return _about(str(dataset.SOPInstanceUID), listed, self._session.status)

    def search(self) -> int | None:
        """Search for a study that does not exist (QIDO-RS, PS3.18 10.6): whether it answers, and lets us in.

        Returns:
            The HTTP status; None where no answer came.

        Raises:
            ConnectionError: The service cannot be reached; says why, without secrets.
        """
        try:
            self._client.search_for_studies(search_filters={"StudyInstanceUID": _ABSENT_STUDY}, limit=1)
        except (HTTPError, JSONDecodeError):
            return self._session.status
        except RequestException as problem:
            _raise_unless_sent(problem)
            return None
        except PARSE_ERRORS:
            return self._session.status
        return self._session.status


class _PlainSession(Session):
    """A session that takes nothing from its environment, follows nobody elsewhere, and keeps its last answer."""

    def __init__(self, service: WebService) -> None:
        super().__init__()
        # Else ~/.netrc would say who we are, and a variable which proxy sees the results.
        self.trust_env = False
        self.headers["Accept"] = "application/dicom+json"
        if service.authorization is not None:
            self.headers["Authorization"] = service.authorization
        if service.ca_file is not None:
            if not service.ca_file.is_file():
                raise ConnectionError("its ca_file is not there")
            self.verify = str(service.ca_file)
        self._last: Response | None = None

    @property
    def status(self) -> int:
        """The HTTP status of the last answer; 0 without one."""
        return 0 if self._last is None else self._last.status_code

    def listed(self) -> Dataset:
        """What the last answer lists, where it is DICOM JSON; else an empty data set."""
        try:
            return Dataset() if self._last is None else Dataset.from_json(self._last.json())
        except (*PARSE_ERRORS, JSONDecodeError):
            return Dataset()

    def send(self, request: PreparedRequest, **options: Any) -> Response:
        """As every session does, but once and to this place: a redirected POST would become a GET."""
        self._last = None
        # dicomweb-client sets it without the port (0.61.2).
        request.headers.pop("Host", None)
        self._last = super().send(request, **{**options, "allow_redirects": False})
        # dicomweb-client knows the bare media type only, and needs one (0.61.2).
        media_type = self._last.headers.get("Content-Type", "")
        self._last.headers["Content-Type"] = media_type.split(";")[0].strip().lower()
        return self._last


def _about(uid: str, listed: Dataset, http_status: int) -> WebAnswer:
    """What the answer lists about this instance; what it lists wrongly is not listed."""
    try:
        failed = _item_of(uid, listed.get("FailedSOPSequence"))
        stored = _item_of(uid, listed.get("ReferencedSOPSequence"))
        if failed is not None:
            return WebAnswer(http_status, failure=int(failed.get("FailureReason") or _PROCESSING_FAILURE))
        if stored is not None:
            warning = stored.get("WarningReason")
            return WebAnswer(http_status, stored=True, warning=int(warning) if warning else None)
    except PARSE_ERRORS:
        return WebAnswer(http_status)
    return WebAnswer(http_status)


def _item_of(uid: str, items: list[Dataset] | None) -> Dataset | None:
    return next((item for item in items or () if item.get("ReferencedSOPInstanceUID") == uid), None)


def _raise_unless_sent(problem: RequestException) -> None:
    """Raise ConnectionError where nothing was sent. The library's own words may hold the url and headers."""
    reason = problem.args[0].reason if problem.args and isinstance(problem.args[0], MaxRetryError) else None
    if isinstance(problem, SSLError):
        raise ConnectionError("no TLS connection: its certificate is not trusted, or it speaks no TLS") from problem
    if isinstance(reason, NameResolutionError):
        raise ConnectionError("its name cannot be resolved") from problem
    if isinstance(problem, ConnectTimeout) or isinstance(reason, NewConnectionError):
        raise ConnectionError("nothing answers there") from problem
    if isinstance(problem, ValueError):
        raise ConnectionError("the request cannot be made") from problem
