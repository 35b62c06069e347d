"""Running one load: Locust starts and ends the users; the window, its CPU time and the event loop's lag are ours."""

import gc
import time
from collections.abc import Callable
from pathlib import Path

import gevent
import numpy as np
from locust.env import Environment

from slipway_loadtests.alarm import Alarm, now_ns
from slipway_loadtests.session import Session
from slipway_loadtests.sessions import CLOSED_LOOP, OPEN_LOOP
from slipway_wire import samples
from slipway_wire.loads import LoadOrder, LoadOutcome, LoadWindow

_CONNECTING_TIMEOUT_S = 30.0
# From "all are connected" to the first request: time for whoever ordered the load to hear of the window.
_NOTICE_NS = 20_000_000
_TICK_NS = 10_000_000


class _Watch:
    """CPU time of this process and lag of its event loop, between the begin and the end of a window."""

    def __init__(self, begin_ns: int, end_ns: int) -> None:
        self.cpu = [(0, 0), (0, 0)]
        self.lags_ns: list[int] = []
        self._begin_ns, self._end_ns = begin_ns, end_ns
        self._greenlets = [gevent.spawn(self._read_cpu), gevent.spawn(self._tick)]

    def _read_cpu(self) -> None:
        for index, moment in enumerate((self._begin_ns, self._end_ns)):
            _sleep_until(moment)
            self.cpu[index] = (now_ns(), time.process_time_ns())

    def _tick(self) -> None:
        alarm = Alarm()
        try:
            for due in range(self._begin_ns, self._end_ns, _TICK_NS):
                alarm.wait_until(due)
                self.lags_ns.append(now_ns() - due)
        finally:
            alarm.close()

    def stop(self) -> None:
        """End it; a load that was over before its window gets its last reading now."""
        gevent.killall(self._greenlets)
        for index in (0, 1):
            if self.cpu[index] == (0, 0):
                self.cpu[index] = (now_ns(), time.process_time_ns())


def _sleep_until(time_ns: int) -> None:
    alarm = Alarm()
    try:
        alarm.wait_until(time_ns)
    finally:
        alarm.close()


def run(order: LoadOrder, session: Session, announce: Callable[[LoadWindow], LoadWindow]) -> LoadOutcome:
    """
    Run one load to its end and write its samples.

    Args:
        order: What to do; its address and payloads are in *session* already.
        session: Fresh.
        announce: Told of the window before the first request leaves; gives the one that holds.
    """
    user = (CLOSED_LOOP if order.rate is None else OPEN_LOOP)[order.protocol]
    environment = Environment(user_classes=[user])
    environment.sessions = {order.protocol: session}
    users = order.users if order.rate is None else 1
    runner = environment.create_local_runner()
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        runner.start(users, spawn_rate=users)
        session.wait_for_users(users, _CONNECTING_TIMEOUT_S)
        origin = now_ns() + _NOTICE_NS if order.origin_ns is None else order.origin_ns
        begin = origin + round(order.warmup_s * 1e9)
        end = begin + round(order.window_s * 1e9)
        window = announce(LoadWindow(origin_ns=origin, begin_ns=begin, end_ns=end))
        origin, begin, end = window.origin_ns, window.begin_ns, window.end_ns
        watch = _Watch(begin, end)
        _sleep_until(origin)
        session.begin(origin, end)
        runner.user_greenlets.join(timeout=(end - now_ns()) / 1e9 + order.drain_s)
        finished = now_ns()
        transferred, again = session.bytes_transferred(), session.bytes_sent_again()
        watch.stop()
    finally:
        # What is still in flight takes itself down as a timeout.
        runner.quit()
        for connection in session.connections:
            connection.close()
        gc.enable()
        gc.unfreeze()
    # A load of so many requests has no window but itself.
    end = end if order.requests is None else finished
    recorded = session.recorder.samples(origin, begin, end, fits=session.answers.fits())
    samples.write(Path(order.samples), recorded)
    verdict = session.answers.judge()
    (cpu_from, cpu_before), (cpu_to, cpu_after) = watch.cpu
    lags_us = np.array(watch.lags_ns or [0]) / 1000
    return LoadOutcome(
        requests=len(session.recorder),
        errors=dict(session.recorder.errors),
        first_error=session.first_error,
        checked_answers=verdict.checked,
        wrong_answers=verdict.wrong,
        first_wrong=verdict.first_wrong,
        connections=len(session.connections),
        bytes_sent=transferred[0] if transferred else None,
        bytes_received=transferred[1] if transferred else None,
        bytes_sent_again=again,
        reconnects=session.reconnects,
        cpu_ns=cpu_after - cpu_before,
        cpu_from_ns=cpu_from,
        cpu_to_ns=cpu_to,
        lag_p99_us=float(np.percentile(lags_us, 99)),
        lag_max_us=float(lags_us.max()),
    )
