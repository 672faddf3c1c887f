"""The fault campaign's own parts, and a short one on three real brokers; `make faults` is the long one."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509

from infra.pki import Authority, TlsFiles, utc_now
from infra.places import HOST, free_ports
from infra.report import Reporter
from sealtrail.errors import ConfigError
from tests.campaign.lines import Ledger, Line, summary
from tests.campaign.plan import KILL_POINTS, OTHER_DEEDS, Counts, Deed, Fault, Kind, plan, shard_of
from tests.campaign.relay import REPEATED, Act, Caught, Pass, Relays, Side
from tests.campaign.shard import run
from tests.campaign.wire import Api, Producer, Request, error_of, producer_of, request_of
from tests.conftest import wait_until

# -- the plan


def test_a_plan_follows_from_its_seed_and_has_what_was_asked_for() -> None:
    made = plan(7, Counts())
    assert made == plan(7, Counts())
    assert made != plan(8, Counts())
    assert [fault.number for fault in made] == list(range(125))
    kinds = Counter(fault.kind for fault in made)
    assert kinds == {Kind.KILL: 40, Kind.ZOMBIE: 20, Kind.REBALANCE: 20, Kind.NETWORK: 40, Kind.BROKER: 5}
    network = [fault for fault in made if fault.kind is Kind.NETWORK]
    assert sum(fault.api is Api.END_TXN for fault in network) == 20


def test_a_full_plan_meets_every_point_and_every_deed() -> None:
    made = plan(1, Counts())
    killed = {(f.api, f.side, f.lost) for f in made if f.kind is Kind.KILL and f.api is not None}
    assert killed == set(KILL_POINTS)
    done = {(f.deed, f.api, f.side) for f in made if f.kind is Kind.NETWORK and f.api is not Api.END_TXN}
    assert done == set(OTHER_DEEDS)


def test_no_end_of_a_transaction_that_was_answered_lands_once_more() -> None:
    """More than a client without KIP-890 can withstand (ADR 19): it is no fault of the sealer's."""
    assert not any(f.deed is Deed.REPEATED and f.api is Api.END_TXN for seed in range(20) for f in plan(seed, Counts()))


def test_shards_share_a_plan_out() -> None:
    made = plan(3, Counts())
    parts = [shard_of(made, shard, 4) for shard in (1, 2, 3, 4)]
    assert sorted((fault for part in parts for fault in part), key=lambda fault: fault.number) == made
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


# -- what was done

GOOD = Line(0, Kind.KILL.value, "killed at random", False, 12.5, 2, 2, 1000, "", 0, 0, 0, 1.0, "")


def test_what_was_done_is_known_again_from_all_shards_and_a_line_cut_short_is_not(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.begin(1, Counts(), 120.0)
    ledger.add(2, 4, replace(GOOD, number=5))
    ledger.add(1, 4, GOOD)
    with (tmp_path / "faults-1-of-4.jsonl").open("a") as file:
        file.write('{"number": 4, "kind": "ki')
    again = Ledger(tmp_path)
    again.begin(1, Counts(), 120.0)
    assert again.lines() == [GOOD, replace(GOOD, number=5)]
    with pytest.raises(ConfigError, match="another plan"):
        again.begin(2, Counts(), 120.0)


def test_the_last_line_counts_everything() -> None:
    lines = [
        GOOD,
        replace(GOOD, number=1, kind=Kind.ZOMBIE.value, refused="broker"),
        replace(GOOD, number=2, kind=Kind.NETWORK.value, on_end_txn=True, recovery_s=3.0),
        replace(GOOD, number=3, kind=Kind.NETWORK.value),
    ]
    assert summary(lines) == (
        "faults: 1 kills, 1 zombies (1 refused), 0 rebalances, 2 network (1 on EndTxn), 0 broker kills; 4,000 records; "
        "lost 0, duplicated 0, forks 0; slowest recovery 12.5 s"
    )
    bad = [replace(GOOD, recovery_s=31.0), replace(GOOD, number=1, kind=Kind.ZOMBIE.value, forks=1, problem="fork")]
    assert summary(bad).endswith("forks 1; slowest recovery 31.0 s; 1 recoveries above 30 s; 1 faults with a problem")
    assert "1 zombies (0 refused)" in summary(bad)


# -- the protocol


def header(api: Api, version: int, correlation: int = 7) -> bytes:
    return struct.pack(">hhi", api, version, correlation) + b"\x00\x04test"


def classic(text: str) -> bytes:
    return struct.pack(">h", len(text)) + text.encode()


def compact(text: str) -> bytes:
    return bytes([len(text) + 1]) + text.encode()


OWNER = struct.pack(">qh", 4711, 3)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (
            header(Api.END_TXN, 1) + classic("d/raw/4") + OWNER + b"\x01",
            Request(Api.END_TXN, 1, 7, "d/raw/4", True, Producer(4711, 3)),
        ),
        (
            header(Api.END_TXN, 3) + b"\x00" + compact("d/raw/4") + OWNER + b"\x00\x00",
            Request(Api.END_TXN, 3, 7, "d/raw/4", False, Producer(4711, 3)),
        ),
        (
            header(Api.INIT_PRODUCER_ID, 4) + b"\x01\x00\x02xy" + compact("d/raw/4") + b"\x00\x00\x2e\xe0",
            Request(Api.INIT_PRODUCER_ID, 4, 7, "d/raw/4"),
        ),
        (header(Api.PRODUCE, 7) + b"\xff\xff" + b"\xff\xff", Request(Api.PRODUCE, 7, 7, None)),
        (header(Api.FETCH, 11), Request(Api.FETCH, 11, 7)),
    ],
)
def test_a_request_is_known_by_kind_and_transaction(body: bytes, expected: Request) -> None:
    assert request_of(body) == expected


QUIET = struct.pack(">i", 0)
PLACE = struct.pack(">ih", 2, 47)


@pytest.mark.parametrize(
    ("request_", "body", "error"),
    [
        (Request(Api.END_TXN, 1, 7), QUIET + struct.pack(">h", 47), 47),
        (Request(Api.END_TXN, 3, 7), b"\x00" + QUIET + struct.pack(">h", 0) + b"\x00", 0),
        (Request(Api.ADD_PARTITIONS, 0, 7), QUIET + struct.pack(">i", 1) + classic("t") + struct.pack(">i", 1) + PLACE, 47),
        (Request(Api.TXN_OFFSET_COMMIT, 3, 7), b"\x00" + QUIET + b"\x02" + compact("t") + b"\x02" + PLACE, 47),
        (Request(Api.PRODUCE, 7, 7), struct.pack(">i", 1) + classic("t") + struct.pack(">i", 1) + PLACE, 47),
        (Request(Api.PRODUCE, 7, 7), struct.pack(">i", 0), 0),
    ],
)
def test_the_first_error_of_a_response_is_found(request_: Request, body: bytes, error: int) -> None:
    assert error_of(request_, struct.pack(">i", 7) + body) == error


# -- the relay


class Broker:
    """One that answers every transactional request without error, and remembers what it got."""

    def __init__(self, port: int, tls: TlsFiles) -> None:
        self.got: list[Request] = []
        self._epochs: Counter[str | None] = Counter()
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(tls.ca))
        context.load_cert_chain(tls.certificate, tls.key)
        context.verify_mode = ssl.CERT_REQUIRED
        self._listener = socket.create_server((HOST, port))
        self._context = context
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                raw, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(raw,), daemon=True).start()

    def _serve(self, raw: socket.socket) -> None:
        try:
            with self._context.wrap_socket(raw, server_side=True) as sock:
                while True:
                    request = request_of(receive(sock))
                    self.got.append(request)
                    send(sock, struct.pack(">i", request.correlation) + self._answer(request))
        except (OSError, EOFError):
            pass  # cut

    def _answer(self, request: Request) -> bytes:
        if request.api != Api.INIT_PRODUCER_ID:
            return QUIET + struct.pack(">h", 0)
        self._epochs[request.transactional_id] += 1
        return QUIET + struct.pack(">hqh", 0, 4711, self._epochs[request.transactional_id] - 1)


def receive(sock: ssl.SSLSocket) -> bytes:
    def exactly(count: int) -> bytes:
        data = b""
        while len(data) < count:
            more = sock.recv(count - len(data))
            if not more:
                raise EOFError
            data += more
        return data

    return exactly(struct.unpack(">i", exactly(4))[0])


def send(sock: ssl.SSLSocket, body: bytes) -> None:
    sock.sendall(struct.pack(">i", len(body)) + body)


def fence(correlation: int) -> bytes:
    return header(Api.INIT_PRODUCER_ID, 0, correlation) + classic("d/raw/4") + struct.pack(">i", 12_000)


def end(correlation: int, epoch: int, *, commits: bool = True) -> bytes:
    return header(Api.END_TXN, 1, correlation) + classic("d/raw/4") + struct.pack(">qh?", 4711, epoch, commits)


class Link:
    """A relay between a broker and clients of ours."""

    def __init__(self, folder: Path) -> None:
        authority = Authority(folder / "ca.pem", folder / "ca.key", "relay", utc_now())
        self._client = authority.issue(folder, "sealer")
        server = authority.issue(folder, "broker", server=True)
        self.port, target = free_ports(2)
        self.broker = Broker(target, server)
        self.relays = Relays([(self.port, target)], server, self._client, lambda serial: serial)

    @property
    def serial(self) -> int:
        return x509.load_pem_x509_certificate(self._client.certificate.read_bytes()).serial_number

    def connect(self) -> ssl.SSLSocket:
        context = ssl.create_default_context(cafile=str(self._client.ca))
        context.load_cert_chain(self._client.certificate, self._client.key)
        return context.wrap_socket(socket.create_connection((HOST, self.port), timeout=20), server_hostname=HOST)


@pytest.fixture
def link(tmp_path: Path) -> Iterator[Link]:
    made = Link(tmp_path)
    with made.relays:
        yield made
    made.broker.close()


def act(does: Callable[[Caught], Pass]) -> Act:
    async def acting(caught: Caught) -> Pass:
        return does(caught)

    return acting


def asked(link: Link, *bodies: bytes) -> list[int]:
    """Send these on one connection; the correlation ids of what is answered until it ends or all is."""
    found: list[int] = []
    with link.connect() as sock:
        try:
            for body in bodies:
                send(sock, body)
                found.append(struct.unpack_from(">i", receive(sock))[0])
        except (OSError, EOFError):
            pass
    return found


@pytest.mark.parametrize("side", Side)
def test_a_commit_that_is_dropped_reached_the_broker_or_did_not_and_its_sender_hears_nothing(link: Link, side: Side) -> None:
    trigger = link.relays.arm(Api.END_TXN, side, 1, act(lambda _: Pass.CUT))
    assert asked(link, fence(1), end(2, 0, commits=False), end(3, 0), end(4, 0)) == [1, 2, 3]
    assert trigger.met.is_set()
    reached = [request.correlation for request in link.broker.got]
    assert reached == [1, 2, 3] + ([4] if side is Side.RESPONSE else [])
    assert asked(link, end(5, 0)) == [5]  # one fault is one


def test_what_is_held_when_its_sender_goes_still_reaches_the_broker(link: Link) -> None:
    released = threading.Event()

    async def hold(_: Caught) -> Pass:
        while not released.is_set():
            await asyncio.sleep(0.01)
        return Pass.ON

    trigger = link.relays.arm(Api.END_TXN, Side.REQUEST, 0, hold)
    sock = link.connect()
    send(sock, fence(1))
    receive(sock)
    send(sock, end(2, 0))
    assert trigger.met.wait(20)
    sock.close()
    assert asked(link, fence(3)) == [3]  # another owner
    released.set()
    wait_until(lambda: len(link.broker.got) == 3, deadline_s=20, what="the held request")
    wait_until(lambda: link.relays.accepted, deadline_s=20, what="its answer")  # this broker fences nobody, and it shows
    assert link.relays.accepted[0].request.producer == Producer(4711, 0)


def test_a_request_is_its_senders_by_the_number_of_the_certificate(link: Link) -> None:
    link.relays.arm(Api.END_TXN, Side.RESPONSE, 0, act(lambda _: Pass.ON))
    assert asked(link, fence(1), end(2, 0)) == [1, 2]
    assert {answer.pid for answer in link.relays.answered} == {link.serial}


def test_a_request_that_was_overtaken_reaches_the_broker_though_its_sender_was_cut_off(link: Link) -> None:
    async def overtaken(caught: Caught) -> Pass:
        caught.hang_up()
        while len(link.broker.got) < 2:
            await asyncio.sleep(0.01)
        return Pass.ON

    link.relays.arm(Api.END_TXN, Side.REQUEST, 0, overtaken)
    assert asked(link, fence(1), end(2, 0)) == [1]
    assert asked(link, end(3, 0)) == [3]
    wait_until(lambda: [r.correlation for r in link.broker.got] == [1, 3, 2], deadline_s=20, what="the first")


def test_a_request_is_repeated_and_the_second_answer_reaches_nobody(link: Link) -> None:
    def twice(caught: Caught) -> Pass:
        asyncio.get_running_loop().call_later(0.05, caught.repeat)
        return Pass.ON

    link.relays.arm(Api.ADD_OFFSETS, Side.REQUEST, 0, act(twice))
    with link.connect() as sock:
        send(sock, header(Api.ADD_OFFSETS, 0, 1) + classic("d/raw/4") + OWNER + classic("group"))
        assert receive(sock)[:4] == struct.pack(">i", 1)
        wait_until(lambda: len(link.broker.got) == 2, deadline_s=20, what="the second")
        send(sock, end(2, 0))
        assert receive(sock)[:4] == struct.pack(">i", 2)
    assert [request.correlation for request in link.broker.got] == [1, REPEATED + 1, 2]


def test_a_broker_that_is_cut_off_is_reached_again_later(link: Link) -> None:
    assert asked(link, fence(1)) == [1]
    link.relays.cut(0, 0.5)
    assert asked(link, fence(2)) == []
    wait_until(lambda: asked(link, fence(3)) == [3], deadline_s=20, what="another connection")


def test_who_owns_a_chain_is_read_from_the_answer_to_its_fence() -> None:
    request = Request(Api.INIT_PRODUCER_ID, 4, 7)
    assert producer_of(request, struct.pack(">i", 7) + b"\x00" + QUIET + struct.pack(">hqh", 0, 4711, 3)) == Producer(4711, 3)


# -- three real brokers


SHORT = [
    Fault(0, Kind.KILL, Deed.KILLED, Api.END_TXN, Side.REQUEST, 5),
    Fault(1, Kind.NETWORK, Deed.DROPPED, Api.END_TXN, Side.RESPONSE, 5, lost=True),
    Fault(2, Kind.ZOMBIE, Deed.STOPPED, Api.END_TXN, Side.REQUEST, 5),
    Fault(3, Kind.NETWORK, Deed.HELD, Api.END_TXN, Side.REQUEST, 5, seconds=6.0),
    Fault(4, Kind.BROKER, Deed.BROKER_KILLED, which=1),
]


@pytest.mark.slow
@pytest.mark.servers
def test_through_faults_on_three_brokers_nothing_is_lost_doubled_or_forked_and_the_zombie_is_refused(tmp_path: Path) -> None:
    """How long a recovery takes is judged by `make faults`, on a machine that does nothing else."""
    ledger = Ledger(tmp_path)
    run(SHORT, (1, 1), ledger, 60.0, Reporter(), warm=False)
    lines = ledger.lines()
    assert [line.problem for line in lines] == [""] * len(SHORT), "\n".join(map(str, lines))
    assert all(line.records > 0 and line.recovery_s is not None for line in lines)
    assert lines[2].refused == "broker"
    assert all(lines[number].moved for number in (0, 2))
    assert lines[3].fenced
