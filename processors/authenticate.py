"""Step 2: is this record from the source that it names (EVI-8), and was it said to us?

The session header is checked once and remembered; the MAC is checked for every record, before
anything but the head of the event is read. What failed is remembered too, apart and for a short time:
a flood of forged records costs one signature check, not one each. It is remembered no longer than the
keyring stays what it was: a source that was certified a moment ago is not refused for what was said before.
"""

from __future__ import annotations

import hmac
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import TypeVar

from processors.native import Kernel
from processors.records import RawRecord, Rejection
from schemas.head import Head
from schemas.locator import Located
from schemas.partitioner import partition_of
from sealtrail.certificate import Certificate, Role
from sealtrail.errors import EvidenceError, TransientError
from sealtrail.keyring import Keyring
from sealtrail.seal import Reason
from sealtrail.session import RUN_SESSION, Run, RunSession, mac_key, record_mac, unwrap_session_key, verify_session
from sealtrail.token import FieldCipher

CACHE_SIZE = 4096  # sessions; some 2 KiB each
FAILED_SIZE = 1024
FAILED_S = 5.0  # for so long at most a header that failed is refused unseen
MAX_HEADER = 2048  # bytes of st-session; ours are some 350
Open = Callable[[bytes, bytes], bytes]
T = TypeVar("T")


class Session:
    """A run's session that was verified and opened. Told apart by identity."""

    __slots__ = ("_native", "certificate", "cipher", "key", "key_id", "mac_key", "partitions", "run", "said")

    def __init__(self, session: RunSession, certificate: Certificate, session_key: bytes) -> None:
        self.run = session.run
        self.key_id = session.key_id
        self.certificate = certificate
        self.mac_key = mac_key(session_key)
        self.cipher = FieldCipher(session_key)
        self.key = self.run.key.encode()  # of its records
        self.said = (self.run.source.encode(), self.run.instance.encode(), self.run.epoch)
        self.partitions: dict[int, int] = {}  # where its records belong, by how many partitions there are
        self._native: object | None = None

    def partition(self, partitions: int) -> int:
        """Where its records belong."""
        found = self.partitions.get(partitions)
        if found is None:
            found = self.partitions[partitions] = partition_of(self.key, partitions)
        return found

    def native(self, kernel: Kernel, topic: str) -> object:
        """What the kernel keeps of it."""
        if self._native is None:
            certificate = self.certificate
            times = certificate.not_before_s, certificate.not_after_s
            self._native = kernel.Session(self.mac_key, topic.encode(), *self.said, self.key, *times)
        return self._native


class Authenticate:
    """Callable: (raw record, head of its event, its partition, how many there are) to its `Run`; raises `Rejection`.

    TransientError, where a run is opened to a pipeline key that is certified and that this sealer does not hold yet: what is
    refused is refused for good, so the record waits.

    Args:
        load: certified keys, as they are now: the same object while nothing changed; called for every record that fails.
        openers: HPKE openers of the pipeline keys, by key id: (wrapped, info) -> plaintext.
        audience: whom a session must speak to: us.
        topic: the raw topic's name, which the MAC covers; to be read.
        monotonic: seconds, for how long failures are remembered.
    """

    def __init__(
        self,
        load: Callable[[], Keyring],
        openers: Mapping[bytes, Open],
        audience: str,
        topic: str,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._load = load
        self._keyring = load()
        self._openers = openers
        self._audience = audience
        self.topic = topic
        self._monotonic = monotonic
        self._known: OrderedDict[bytes, Session] = OrderedDict()
        self._failed: OrderedDict[bytes, tuple[float, str]] = OrderedDict()

    def renew(self, keyring: Keyring, openers: Mapping[bytes, Open]) -> None:
        """Certificates and pipeline keys as they are now; sessions of sources whose keys ended are forgotten."""
        changed = keyring is not self._keyring or openers.keys() != self._openers.keys()
        self._openers = openers
        if changed:
            self._take(keyring)

    def _take(self, keyring: Keyring) -> None:
        self._keyring = keyring
        self._failed.clear()
        for header in [h for h, known in self._known.items() if keyring.ended(known.key_id)]:
            del self._known[header]

    def __call__(self, record: RawRecord, head: Head, partition: int, partitions: int) -> Run:
        header, mac = record.header("st-session"), record.header("st-mac")
        if header is None or mac is None:
            raise Rejection(Reason.NOT_AUTHENTIC, "st-session or st-mac missing or repeated")
        if len(header) > MAX_HEADER:
            raise Rejection(Reason.NOT_AUTHENTIC, f"st-session of {len(header)} bytes; at most {MAX_HEADER}")
        known = self._session(header, record.appended_ms / 1000)
        run = Run(head.source, head.instance, head.epoch)
        if known.run != run:
            raise Rejection(Reason.NOT_AUTHENTIC, "emitter is not the run that the session states")
        if not known.certificate.covers(record.appended_ms / 1000):
            raise Rejection(Reason.NOT_AUTHENTIC, "the source's certificate was not valid then")
        if head.seq < 0 or not hmac.compare_digest(mac, record_mac(known.mac_key, self.topic, head.seq, record.value)):
            raise Rejection(Reason.NOT_AUTHENTIC, "st-mac does not match the record")
        if record.key != known.key or known.partition(partitions) != partition:
            raise Rejection(Reason.NOT_AUTHENTIC, "its key is not its emitter's, or belongs on another partition")
        return run

    def quickly(self, record: RawRecord, found: Located, partition: int, partitions: int) -> Session | None:
        """The session of a record that is authentic; None: it is not, or its session is not known yet."""
        header = mac = None
        for name, value in record.headers:
            if name == "st-session":
                if header is not None:
                    return None
                header = value
            elif name == "st-mac":
                if mac is not None:
                    return None
                mac = value
        if header is None or mac is None:
            return None
        known = self._known.get(header)
        if (
            known is None
            or known.said != (found.source, found.instance, found.epoch)
            or record.key != known.key
            or known.partition(partitions) != partition
            or not known.certificate.covers(record.appended_ms / 1000)
            or not hmac.compare_digest(mac, record_mac(known.mac_key, self.topic, found.seq, record.value))
        ):
            return None
        self._known.move_to_end(header)
        return known

    def verified(self, header: bytes) -> Session | None:
        """The session of a header that was verified before; it counts as used now."""
        known = self._known.get(header)
        if known is not None:
            self._known.move_to_end(header)
        return known

    def cipher(self, record: RawRecord) -> FieldCipher:
        """What opens the fields that the record's application encrypted; of a record that was just shown to be authentic."""
        return self._session(record.header("st-session") or b"", record.appended_ms / 1000).cipher

    def _session(self, header: bytes, time_s: float) -> Session:
        found = self._known.get(header)
        if found is not None:
            self._known.move_to_end(header)
            return found
        keyring = self._load()
        if keyring is not self._keyring:  # its source may have been certified since
            self._take(keyring)
        now = self._monotonic()
        failed = self._failed.get(header)
        if failed is not None and now - failed[0] < FAILED_S:
            raise Rejection(Reason.NOT_AUTHENTIC, failed[1])
        verified = self._verify(header, time_s)
        if isinstance(verified, str):
            if not self._outdated(header, time_s):  # another record's time may be within the certificate's
                _remember(self._failed, header, (now, verified), FAILED_SIZE)
            raise Rejection(Reason.NOT_AUTHENTIC, verified)
        _remember(self._known, header, verified, CACHE_SIZE)
        return verified

    def _outdated(self, header: bytes, time_s: float) -> bool:
        """Whether the certificate that a failed header names does not cover this time; costs no signature check."""
        try:
            certificate = self._keyring.find(RUN_SESSION.decode(header)["key_id"], Role.SOURCE)
        except EvidenceError:
            return False
        return certificate is not None and not certificate.covers(time_s)

    def _expected(self, pipeline_key: bytes, time_s: float) -> bool:
        """Whether emitters are told to encrypt to this key: the newest that is certified for us. Then it must come."""
        part = self._audience.rpartition("/")[0] + "/"
        newest = self._keyring.newest(Role.PIPELINE, time_s, lambda certificate: certificate.speaks_for(part))
        return newest is not None and newest.key_id == pipeline_key

    def _verify(self, header: bytes, time_s: float) -> Session | str:
        try:
            session = verify_session(header, self._keyring, time_s)
            certificate = self._keyring.find(session.key_id, Role.SOURCE)
            if self._keyring.ended(session.key_id):
                return "the source's key ended"
            if session.audience != self._audience:
                return "session speaks to another topic or deployment"
            open_ = self._openers.get(session.pipeline_key)
            if open_ is None and self._expected(session.pipeline_key, time_s):
                raise TransientError(
                    f"pipeline key {session.pipeline_key.hex()[:16]}… is certified, and not in this keystore yet", 1
                )
            if open_ is None or certificate is None:
                return "session wrapped to a pipeline key that is not this sealer's"
            key = unwrap_session_key(session, open_)
        except EvidenceError as error:
            return str(error)
        return Session(session, certificate, key)


def _remember(cache: OrderedDict[bytes, T], key: bytes, value: T, size: int) -> None:
    cache[key] = value
    if len(cache) > size:
        cache.popitem(last=False)
