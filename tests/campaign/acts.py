"""One fault after another on what runs: done, recovered from, and then the whole trail checked.

A round: sealers run and seal, all of them; the fault strikes; every chain must pass what was acknowledged when it did, and,
if it has been fenced since, what was acknowledged then. Then the load pauses until all is sealed, and what was sealed since
the last round is checked by `tests.trail`: nothing lost, nothing twice, no fork, every output as the seals say.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pytest

from infra.report import Reporter
from kafkaio.transaction import Ends
from schemas.catalogue import topic_name
from sealtrail.errors import SealtrailError, TransientError
from tests.campaign.cluster import BROKERS, Cluster
from tests.campaign.lines import Line
from tests.campaign.load import Load, Positions
from tests.campaign.plan import Deed, Fault, Kind
from tests.campaign.relay import Act, Answered, Caught, Pass, Relays, Side, Trigger
from tests.campaign.sealers import SealerProcess, Sealers
from tests.campaign.wire import Api
from tests.conftest import wait_until
from tests.trail import GrowingTrail

SEALERS = 3
STEADY_S = 300.0  # until all sealers have chains and all chains go on
PACE_S = 2.0  # how far behind the load a chain that keeps up may be
PACES = 10  # in a row, until brokers that were just started count as warm
STRIKES_S = 60.0  # until a request of the kind comes by
PATIENCE_S = 180.0  # a recovery that takes longer than it should is still measured
REFUSED_S = 30.0  # until a zombie that was woken has noticed
SEALED_S = 60.0
PROVOKING_S = 6.0  # an EndTxn that is held for so long sends its chain back to the fence
DELAYED_S = 8.0
MOVING = (Kind.KILL, Kind.ZOMBIE, Kind.REBALANCE)


@dataclass
class Stroke:
    """What a fault did so far. `before`: who owned each chain; `target`: the raw positions to pass; `joining`: must get one."""

    at: float
    target: list[int]
    before: dict[str, int | None]
    raised: set[str] = field(default_factory=set)
    moved: set[str] = field(default_factory=set)
    joining: int | None = None


class Campaign:
    """Faults on one cluster."""

    def __init__(
        self, cluster: Cluster, relays: Relays, sealers: Sealers, load: Load, positions: Positions, report: Reporter
    ) -> None:
        self._cluster, self._relays, self._sealers = cluster, relays, sealers
        self._load, self._positions, self._report = load, positions, report
        self._trail = GrowingTrail(cluster, cluster.partitions)
        self._raw = [(topic_name(cluster.topic_prefix, "audit.raw"), p) for p in range(cluster.partitions)]
        self._records = 0

    def warm(self) -> None:
        """Load until every chain keeps up with it: brokers that were just started compile what they do, and stall meanwhile."""
        self._await_steady()
        deadline, kept = time.monotonic() + STEADY_S, 0
        while kept < PACES:
            if time.monotonic() > deadline:
                raise TransientError(f"chains do not keep up with the load after {STEADY_S:.0f} s")
            acknowledged = self._load.acknowledged()
            time.sleep(PACE_S)
            kept = kept + 1 if self._positions.reached(acknowledged) else 0
        self._load.pause()

    def run(self, fault: Fault) -> Line:
        """One round. Whatever does not hold is in the line."""
        line = Line(fault.number, fault.kind.value, str(fault), fault.api is Api.END_TXN)
        try:
            self._await_steady()
            self._relays.answered = []
            self._strike(fault, line)
            self._check(line)
        except AssertionError as error:
            line.problem = str(error)
            line.forks, line.duplicated = int("fork" in line.problem), int("twice" in line.problem)
        except (SealtrailError, pytest.fail.Exception) as error:
            line.problem = str(error)
        line.load = round(os.getloadavg()[0], 1)
        return line

    # -- a round

    def _await_steady(self) -> None:
        """All sealers run and have chains, and every chain goes on."""
        self._sealers.restore(SEALERS)
        for status in self._sealers.unasked:
            self._report.line(f"a sealer had ended by itself with status {status}; started again")
        self._sealers.unasked.clear()
        self._load.resume()
        wait_until(
            lambda: set(self._relays.owners_pids.values()) == set(self._sealers.pids()), deadline_s=STEADY_S, what="balance"
        )
        acknowledged = self._load.acknowledged()
        wait_until(lambda: self._positions.beyond(acknowledged), deadline_s=STEADY_S, what="sealing by all chains")

    def _strike(self, fault: Fault, line: Line) -> None:
        """Do it, and wait until the chains have recovered."""
        acts = {
            Kind.KILL: self._kill,
            Kind.ZOMBIE: self._zombie,
            Kind.REBALANCE: self._rebalance,
            Kind.NETWORK: self._network,
            Kind.BROKER: self._broker,
        }
        acts[fault.kind](fault, line)

    def _check(self, line: Line) -> None:
        """Pause, wait until all is sealed, read what is new."""
        self._load.pause()
        ends = Ends(self._cluster.settings("admin")).high(self._raw)
        raw = [ends[where] for where in self._raw]
        wait_until(lambda: self._positions.reached(raw), deadline_s=SEALED_S, what="all sealed")
        counts = self._trail.take()
        line.records = counts.seals - self._records
        self._records = counts.seals
        line.lost = len(self._load.given.difference(counts.event_ids))
        if line.lost:
            line.problem = f"{line.lost} acknowledged events are not sealed"
        elif self._relays.accepted:
            line.problem = f"a broker took a commit of an outlawed owner: {self._relays.accepted[0].request}"

    # -- faults

    def _kill(self, fault: Fault, line: Line) -> None:
        before = dict(self._relays.owners_pids)
        if fault.api is None:
            time.sleep(fault.seconds)  # any moment will do
            victim = self._sealers.running[fault.which % len(self._sealers.running)]
            stroke = self._struck(time.monotonic(), before)
            victim.kill()
        else:

            async def kill(caught: Caught) -> Pass:
                if caught.pid is not None:
                    os.kill(caught.pid, signal.SIGKILL)
                return Pass.CUT if fault.lost else Pass.ON

            trigger = self._armed(fault, kill)
            stroke = self._struck(trigger.at, before)
            victim = self._sender(trigger)
        self._sealers.buried(victim)
        self._sealers.start()
        self._recovered(fault, stroke, line)

    def _zombie(self, fault: Fault, line: Line) -> None:
        """Stopped within a transaction until every chain goes on without it; then the broker gets its request, and it wakes."""
        before = dict(self._relays.owners_pids)
        released = threading.Event()

        async def stop(caught: Caught) -> Pass:
            if caught.pid is not None:
                os.kill(caught.pid, signal.SIGSTOP)
            while not released.is_set():
                await asyncio.sleep(0.02)
            return Pass.ON

        trigger = self._armed(fault, stop)
        stroke = self._struck(trigger.at, before)
        zombie = self._sender(trigger)
        assert trigger.caught is not None
        name = trigger.caught.request.transactional_id
        partition = str(name).rpartition("/")[2]
        try:
            self._recovered(fault, stroke, line)
            if name not in stroke.moved:
                pytest.fail("the zombie's chain did not move")
        finally:
            woken = time.monotonic()
            gave_up = self._given_up(zombie, partition)
            released.set()

        def answered() -> list[Answered]:
            found = self._relays.since(woken)
            return [a for a in found if (a.pid, a.request.transactional_id) == (zombie.pid, name)]

        try:
            if fault.side is Side.REQUEST:
                wait_until(answered, deadline_s=REFUSED_S, what="the broker's answer to a zombie")
        finally:
            zombie.wake()
        wait_until(
            lambda: any(a.error for a in answered()) or self._given_up(zombie, partition) > gave_up or not zombie.lives,
            deadline_s=REFUSED_S,
            what="refusal",
        )
        if not zombie.lives:
            pytest.fail("a refused sealer ended, instead of going back to the fence")
        by_broker = any(a.error for a in answered())
        if fault.api is Api.END_TXN and not by_broker:
            pytest.fail("no broker refused the zombie's commit")
        line.refused = "broker" if by_broker else "itself"

    def _given_up(self, zombie: SealerProcess, partition: str) -> int:
        """How often that process gave this chain's transaction up: back to the fence, or the partition went meanwhile."""
        given_up = ("goes back to the fence", "left with a transaction open")
        return sum(zombie.says(words, f'"partition": {partition}') for words in given_up)

    def _rebalance(self, fault: Fault, line: Line) -> None:
        stroke = self._struck(time.monotonic(), dict(self._relays.owners_pids))
        leaving = self._sealers.running[fault.which % len(self._sealers.running)]
        if fault.deed is not Deed.LEAVES:
            stroke.joining = self._sealers.start().pid
        if fault.deed is not Deed.JOINS:
            self._sealers.leave(leaving)
        self._recovered(fault, stroke, line)

    def _network(self, fault: Fault, line: Line) -> None:
        if fault.deed is Deed.CUT_OFF:
            stroke = self._struck(time.monotonic(), dict(self._relays.owners_pids))
            self._relays.cut(fault.which % len(BROKERS), fault.seconds)
            self._recovered(fault, stroke, line)
        elif fault.deed is Deed.DELAYED:
            stroke = self._struck(time.monotonic(), dict(self._relays.owners_pids))
            self._relays.delay_s = fault.seconds
            time.sleep(DELAYED_S)  # how long it lasts
            self._relays.delay_s = 0.0
            self._recovered(fault, stroke, line)
        else:
            self._request(fault, line)

    def _request(self, fault: Fault, line: Line) -> None:
        """One request, or its answer, is dropped, held or repeated."""
        before = dict(self._relays.owners_pids)
        repeated = threading.Event()

        async def act(caught: Caught) -> Pass:
            if fault.deed is Deed.OVERTAKEN:
                caught.hang_up()
            if fault.deed in (Deed.HELD, Deed.OVERTAKEN):
                await asyncio.sleep(fault.seconds)
            elif fault.deed is Deed.REPEATED:
                asyncio.get_running_loop().call_later(fault.seconds, caught.repeat)
                asyncio.get_running_loop().call_later(fault.seconds, repeated.set)
            return Pass.CUT if fault.deed is Deed.DROPPED else Pass.ON

        trigger = self._armed(fault, act)
        self._recovered(fault, self._struck(trigger.at, before), line)
        done = repeated if fault.deed is Deed.REPEATED else trigger.through
        wait_until(done.is_set, deadline_s=STRIKES_S, what="the end of the fault")

    def _broker(self, fault: Fault, line: Line) -> None:
        number = BROKERS[fault.which % len(BROKERS)]
        stroke = self._struck(time.monotonic(), dict(self._relays.owners_pids))
        self._cluster.kill(number)
        if fault.seconds:
            time.sleep(fault.seconds)  # how long it is away, at least
            with ThreadPoolExecutor(1) as beside:
                starting = beside.submit(self._cluster.start, number)
                self._recovered(fault, stroke, line)
                starting.result()
        else:
            self._recovered(fault, stroke, line)
            self._cluster.start(number)
        self._cluster.await_whole()

    # -- parts of them

    def _armed(self, fault: Fault, act: Act) -> Trigger:
        """Wait until a request is caught where the fault is to strike. Fences come by when one is provoked."""
        assert fault.api is not None
        if fault.api is Api.INIT_PRODUCER_ID:

            async def hold(_: Caught) -> Pass:
                await asyncio.sleep(PROVOKING_S)
                return Pass.ON

            self._relays.arm(Api.END_TXN, Side.REQUEST, 0, hold)
        trigger = self._relays.arm(fault.api, fault.side, fault.skip, act)
        if not trigger.met.wait(STRIKES_S):
            pytest.fail(f"no {fault.api.name} came by in {STRIKES_S:.0f} s")
        return trigger

    def _sender(self, trigger: Trigger) -> SealerProcess:
        assert trigger.caught is not None
        found = self._sealers.by_pid(trigger.caught.pid)
        if found is None:
            pytest.fail("a request of no sealer's was caught")
        return found

    def _struck(self, at: float, before: dict[str, int | None]) -> Stroke:
        return Stroke(at, self._load.acknowledged(), before)

    def _recovered(self, fault: Fault, stroke: Stroke, line: Line) -> None:
        """Wait for it, and note how long it took since the stroke."""
        moves = fault.kind in MOVING

        def recovered() -> bool:
            for answer in self._relays.since(stroke.at):
                name = answer.request.transactional_id
                if answer.request.api == Api.INIT_PRODUCER_ID and not answer.error and name is not None:
                    if name not in stroke.raised:
                        stroke.raised.add(name)
                        partition = int(name.rpartition("/")[2])
                        stroke.target[partition] = self._load.acknowledged()[partition]
                    if stroke.before.get(name) != answer.pid:
                        stroke.moved.add(name)
            if moves and not stroke.moved:
                return False
            if stroke.joining is not None and stroke.joining not in self._relays.owners_pids.values():
                return False
            return self._positions.beyond(stroke.target)

        wait_until(recovered, deadline_s=PATIENCE_S, what="recovery of all chains")
        line.recovery_s = round(time.monotonic() - stroke.at, 1)
        line.fenced, line.moved = len(stroke.raised), len(stroke.moved)
