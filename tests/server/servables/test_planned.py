import logging
import threading

import numpy as np
import pytest

from slipway_server import memory, process_stats
from slipway_server.load_options import LoadOptions, ThreadOptions, WarmupOptions
from slipway_server.metrics import Metrics
from slipway_server.servables import plan_timing, planned
from slipway_server.servables.planned import Choices, PlannedLoader
from slipway_server.servables.thread_plans import MIN_ROUNDS, Round, Timing
from slipway_wire import messages, predict, tfrecord, warmup_log
from slipway_wire.status import InvalidArgument
from slipway_wire.warmup_log import WARMUP_FILE

CPUS = 4
BASE = Timing(1e-3, 1e3, 1e-2, 1e4)
BETTER = Round(BASE, Timing(5e-4, 2e3, 5e-3, 2e4))
WORSE = Round(BASE, Timing(2e-3, 5e2, 2e-2, 5e3))


@pytest.fixture
def directory(tmp_path):
    path = tmp_path / WARMUP_FILE
    path.parent.mkdir()
    record = warmup_log.encode("predict", predict.encode_request("m", {"x": np.float32([1.0])}))
    path.write_bytes(tfrecord.frame_all([b"", record]))
    return tmp_path


@pytest.fixture(autouse=True)
def any_call_is_long_enough(monkeypatch):
    """However fast the machine is; and memory is the server's, which has less to look through."""
    monkeypatch.setattr(planned, "MIN_CALL_S", 0.0)
    monkeypatch.setattr(memory, "give_back", lambda: None)


class Server:
    """Loaders of one server; `found` is what measuring finds, `loaded` the threads of every load."""

    def __init__(
        self, fakes, directory, *, cpus=CPUS, has_gpu=False, found=BETTER, sizes=planned.same_twice, **options
    ):
        threads = options.pop("threads", ThreadOptions("auto", limit_s=1e9))
        self.metrics = Metrics()
        self.choices = Choices(LoadOptions(threads=threads, **options), cpus, has_gpu, 2, self.metrics)
        self.found = found
        self.loaded, self.servables, self.measured = [], [], []
        self.error = None
        self.new = fakes.HalfPlusTwo
        self._fakes, self._directory, self._sizes = fakes, directory, sizes

    def load(self, model="m", version=1, **more):
        def make(options, is_counted):
            config = messages.ConfigProto.FromString(options.session_config)
            self.loaded.append((config.intra_op_parallelism_threads, is_counted))
            loader = self._fakes.FakeLoader(self.new())
            self.servables.append(loader.servable)
            if self.error and len(self.loaded) > 1:
                loader.failures = 1
            return loader

        def measure(one_batch, batch_per_core, calls, callers):
            self.measured.append((one_batch, batch_per_core, calls, callers))
            while True:
                yield self.found

        return PlannedLoader(
            make,
            self._directory,
            self.choices,
            model=model,
            version=version,
            sizes=lambda: self._sizes,
            measure=self._finite(measure),
            **more,
        ).load()

    @staticmethod
    def _finite(measure):
        def rounds(*arguments):
            yield from (one for one, _ in zip(measure(*arguments), range(MIN_ROUNDS), strict=False))

        return rounds

    def told(self):
        return [labels[2:] for labels, _ in self.metrics.thread_plan.rows()]


@pytest.fixture
def server(fakes, directory):
    return lambda **options: Server(fakes, directory, **options)


def test_the_better_plan_is_kept_and_the_other_closed(server, caplog):
    made = server()

    with caplog.at_level(logging.INFO):
        servable = made.load()

    first, second = made.servables
    assert made.loaded == [(CPUS, True), (1, False)]
    assert servable is second
    assert first.is_closed
    assert not second.is_closed
    ((one_batch, batch_per_core, calls, callers),) = made.measured
    assert (one_batch, batch_per_core) == (first, second)
    assert callers == 2  # no more than run at once
    assert [call.inputs["x"].tolist() for call in calls] == [[1.0], [1.0]]
    assert made.told() == [("batch_per_core", "measured")]
    assert "servable {name: m version: 1}: thread plan batch_per_core: next to one_batch" in caplog.text


def test_the_default_plan_stays_where_the_other_is_no_better(server):
    made = server(found=WORSE)

    servable = made.load()

    assert servable is made.servables[0]
    assert made.servables[1].is_closed
    assert made.told() == [("one_batch", "measured")]


@pytest.mark.parametrize(
    ("options", "threads", "told"),
    [
        ({"cpus": 1}, 1, ("one_batch", "one_cpu")),
        ({"has_gpu": True}, 0, ("one_batch", "gpu")),
        ({"threads": ThreadOptions("one_batch")}, CPUS, ("one_batch", "flag")),
        ({"threads": ThreadOptions("auto", {"m": "batch_per_core"})}, 1, ("batch_per_core", "flag")),
        ({"threads": ThreadOptions("batch_per_core"), "has_gpu": True}, 1, ("batch_per_core", "flag")),
        ({"threads": ThreadOptions("auto", configured_by="--flag")}, 0, ("configured", "configured")),
        ({"warmup": WarmupOptions(is_enabled=False)}, CPUS, ("one_batch", "no_warmup")),
    ],
)
def test_what_is_settled_is_not_measured(server, options, threads, told):
    made = server(**options)

    made.load()

    assert made.loaded == [(threads, True)]
    assert not made.servables[0].rows
    assert made.told() == [told]


def test_a_version_without_requests_is_not_run(server, directory):
    """What was not given to be run may do harm: it may count, or write."""
    (directory / WARMUP_FILE).unlink()
    made = server()

    made.load()

    assert len(made.loaded) == 1
    assert not made.servables[0].rows
    assert made.told() == [("one_batch", "no_requests")]


def test_requests_are_made_up_for_who_wants_that(server, directory):
    (directory / WARMUP_FILE).unlink()
    made = server(warmup=WarmupOptions(is_synthesized=True))

    made.load()

    assert made.told() == [("batch_per_core", "measured")]


def test_the_sizes_that_the_batcher_runs_are_measured(server):
    made = server(sizes=lambda inputs: (inputs, {"x": np.repeat(inputs["x"], 8)}))

    made.load()

    ((_, _, calls, _),) = made.measured
    assert [len(call.inputs["x"]) for call in calls] == [1, 8]
    assert made.servables[0].rows == [1] * 3 + [8] * 3


@pytest.mark.parametrize(("limit_s", "rows"), [(0.0, []), (1e3, [1, 1, 1])])
def test_what_would_take_too_long_is_not_measured(server, limit_s, rows):
    """Neither to load once more, nor to call at a size that is far from the smallest."""
    huge = {"x": np.broadcast_to(np.float32(0.0), 2**40)}
    made = server(threads=ThreadOptions("auto", limit_s=limit_s), sizes=lambda inputs: (inputs, huge))

    made.load()

    assert len(made.loaded) == 1
    assert made.servables[0].rows == rows
    assert made.told() == [("one_batch", "too_slow")]


class Clock:
    """Goes on when it is told to; in the place of `time`."""

    def __init__(self):
        self.now = 0.0

    def perf_counter(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    made = Clock()
    for module in (planned, plan_timing):
        monkeypatch.setattr(module, "time", made)
    return made


def takes(fakes, clock, *calls_s):
    """Make servables whose calls take so long by *clock*, of one row, of two and so on."""

    class Slow(fakes.HalfPlusTwo):
        def run(self, call):
            clock.now += calls_s[len(call.inputs["x"]) - 1]
            return super().run(call)

    return Slow


@pytest.mark.parametrize(("call_s", "rows"), [(10.0, [1]), (0.9, [1]), (0.3, [1, 1, 1])])
def test_a_slow_call_is_made_no_more_often_than_the_limit_lets_it(server, fakes, clock, call_s, rows):
    """What three calls cost of a model that takes 10 s a call is half a minute, before the first request."""
    made = server(threads=ThreadOptions("auto", limit_s=2.0))
    made.new = takes(fakes, clock, call_s)

    made.load()

    assert made.servables[0].rows == rows
    assert made.told() == [("one_batch", "too_slow")]
    assert clock.now <= max(2.0, call_s)


def test_the_large_calls_come_out_of_the_same_limit(server, fakes, clock):
    made = server(threads=ThreadOptions("auto", limit_s=2.0), sizes=lambda inputs: (inputs, {"x": inputs["x"][[0, 0]]}))
    made.new = takes(fakes, clock, 0.1, 1.0)

    made.load()

    assert made.servables[0].rows == [1, 1, 1, 2]
    assert made.told() == [("one_batch", "too_slow")]


def test_rounds_end_at_the_limit_whatever_was_spent_before(server, fakes, clock, monkeypatch):
    monkeypatch.setattr(planned, "MIN_ROUNDS", 1)
    made = server(threads=ThreadOptions("auto", limit_s=2.0))
    made.new = takes(fakes, clock, 1 / 128)
    began = []

    def measure():
        while True:
            began.append(clock.now)
            clock.now += 0.25
            yield WORSE

    made._finite = lambda _measure: lambda *_arguments: measure()
    made.load()

    assert made.told() == [("one_batch", "measured")]
    assert began[-1] <= 2.0
    assert clock.now <= 2.25


def test_all_models_of_a_server_have_five_times_the_limit_together(server, clock, caplog):
    """Fifty small models must not be as many times as late, nor a new one on a live server without end."""
    made = server(threads=ThreadOptions("auto", limit_s=2.0))
    made.choices.spent_s = 9.0
    made._finite = lambda _measure: lambda *_arguments: rounds()

    def rounds():
        for _ in range(MIN_ROUNDS):
            clock.now += 0.5
            yield BETTER

    with caplog.at_level(logging.INFO):
        made.load("the last")
        made.load("too late")

    assert made.choices.spent_s == 9.0 + MIN_ROUNDS * 0.5
    assert made.told() == [("batch_per_core", "measured"), ("one_batch", "too_slow")]
    assert len(made.servables) == 3
    assert not made.servables[2].rows
    assert "of the 10.0 s for all models, 11.5 s are spent" in caplog.text


def test_what_takes_no_time_is_not_measured(server, monkeypatch):
    monkeypatch.setattr(planned, "MIN_CALL_S", 1e9)
    made = server()

    made.load()

    assert len(made.loaded) == 1
    assert made.told() == [("one_batch", "too_small")]


def test_what_would_not_fit_in_memory_twice_is_not_measured(server, monkeypatch):
    monkeypatch.setattr(memory, "limit_bytes", lambda: 8)
    made = server()

    made.load()

    assert made.told() == [("one_batch", "too_large")]


def test_memory_that_is_taken_is_no_room(server, directory, monkeypatch):
    held = sum(path.stat().st_size for path in (directory / WARMUP_FILE).parent.iterdir())
    monkeypatch.setattr(memory, "limit_bytes", lambda: 100 * held)
    monkeypatch.setattr(process_stats, "read", lambda: {"process_resident_memory_bytes": 99.0 * held})
    made = server()

    made.load()
    monkeypatch.setattr(process_stats, "read", lambda: {"process_resident_memory_bytes": 98.0 * held})
    made.load(version=2)

    assert made.told() == [("one_batch", "too_large"), ("batch_per_core", "measured")]


def test_files_behind_links_count_once(tmp_path):
    for name in ("elsewhere", "version/variables"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "elsewhere" / "weights").write_bytes(b"12345")
    (tmp_path / "version" / "graph").write_bytes(b"123")
    (tmp_path / "version" / "gone").symlink_to(tmp_path / "nowhere")
    (tmp_path / "version" / "variables" / "linked").symlink_to(tmp_path / "elsewhere")
    for name in ("again", "round"):
        (tmp_path / "version" / "variables" / name).symlink_to(tmp_path / "version")

    assert planned._size(tmp_path / "version") == 8


def test_a_version_that_shares_its_threads_has_no_plan(server):
    made = server()

    made.load(has_plan=lambda servable: servable is not made.servables[0])

    assert made.told() == [("one_batch", "shared")]


def test_later_versions_take_what_was_measured(server):
    """A change of versions must not take CPUs from requests, nor change how a model behaves."""
    made = server()
    made.load(version=1)
    made.found = WORSE

    made.load(version=2)
    made.load("another")

    assert made.loaded == [(CPUS, True), (1, False), (1, True), (CPUS, True), (1, False)]
    assert made.told() == [("one_batch", "measured"), ("batch_per_core", "measured"), ("batch_per_core", "version")]


@pytest.mark.parametrize("found", ["too_slow", "too_small", "failed"])
def test_what_is_not_worth_measuring_is_not_tried_with_each_version(server, monkeypatch, found):
    made = server(threads=ThreadOptions("auto", limit_s=0.0 if found == "too_slow" else 1e9))
    if found == "too_small":
        monkeypatch.setattr(planned, "MIN_CALL_S", 1e9)
    made.error = found == "failed"
    made.load(version=1)
    ran, loads = list(made.servables[0].rows), len(made.loaded)
    made.error = None

    made.load(version=2)

    assert made.told() == [("one_batch", found), ("one_batch", "version")]
    assert len(made.loaded) == loads + 1
    assert not made.servables[-1].rows
    assert made.servables[0].rows == ran


def test_a_version_that_comes_with_records_is_measured_though_an_earlier_one_had_none(server, directory):
    record = (directory / WARMUP_FILE).read_bytes()
    (directory / WARMUP_FILE).unlink()
    made = server()
    made.load(version=1)
    (directory / WARMUP_FILE).write_bytes(record)

    made.load(version=2)

    assert made.told() == [("one_batch", "no_requests"), ("batch_per_core", "measured")]


def test_a_version_that_is_loaded_again_has_one_plan(server):
    made = server()
    for _ in range(2):
        made.load()

    assert [(labels[2:], one.value) for labels, one in made.metrics.thread_plan.rows()] == [
        (("batch_per_core", "measured"), 0.0),
        (("batch_per_core", "version"), 1.0),
    ]


def cannot_close(fakes):
    class Stuck(fakes.HalfPlusTwo):
        def close(self):
            super().close()
            raise OSError("stuck")

    return Stuck


@pytest.mark.parametrize(("found", "kept", "plan"), [(BETTER, 1, "batch_per_core"), (WORSE, 0, "one_batch")])
def test_a_loser_that_does_not_close_leaves_the_winner(server, fakes, caplog, found, kept, plan):
    made = server(found=found)
    made.new = cannot_close(fakes)

    servable = made.load()

    assert servable is made.servables[kept]
    assert [one.is_closed for one in made.servables] == [kept == 1, kept == 0]
    assert made.told() == [(plan, "measured")]
    assert "a version with another thread plan could not be closed" in caplog.text


def test_a_version_in_whose_place_another_is_loaded_need_not_close(server, fakes, monkeypatch):
    """Its plan was found while it loaded."""
    made = server()
    made.new = cannot_close(fakes)
    given_back = []
    monkeypatch.setattr(memory, "give_back", lambda: given_back.append(1))
    sizes = made._sizes

    def found_meanwhile():
        made.choices.keep("m", "batch_per_core")
        return sizes

    def make(options, is_counted):
        made.servables.append(made.new())
        return fakes.FakeLoader(made.servables[-1])

    servable = PlannedLoader(
        make,
        made._directory,
        made.choices,
        model="m",
        version=1,
        sizes=found_meanwhile,
    ).load()

    assert servable is made.servables[1]
    assert made.servables[0].is_closed
    assert given_back
    assert made.told() == [("batch_per_core", "version")]


@pytest.mark.parametrize(
    ("options", "may_differ"),
    [
        ({}, True),
        ({"cpus": 1}, False),
        ({"has_gpu": True}, False),
        ({"warmup": WarmupOptions(is_enabled=False)}, False),
        ({"threads": ThreadOptions("one_batch")}, False),
        ({"threads": ThreadOptions("auto", configured_by="--flag")}, False),
        ({"threads": ThreadOptions("one_batch", {"m": "auto"})}, True),
        ({"threads": ThreadOptions("one_batch", {"m": "batch_per_core"}), "has_gpu": True}, True),
    ],
)
def test_sessions_need_threads_of_their_own_where_plans_may_differ(server, options, may_differ):
    assert server(**options).choices.may_differ == may_differ


def test_versions_that_load_at_once_are_measured_once(server):
    made = server()
    made.choices.measuring.acquire()
    loads = [threading.Thread(target=made.load, kwargs={"version": version}) for version in (1, 2)]

    for load in loads:
        load.start()
    made.choices.measuring.release()
    for load in loads:
        load.join()

    assert len(made.measured) == 1
    assert sorted(reason for _, reason in made.told()) == ["measured", "version"]
    assert len([servable for servable in made.servables if not servable.is_closed]) == 2


def test_a_model_that_refuses_its_record_is_left_to_warm_up(server, directory, caplog):
    record = warmup_log.encode("predict", predict.encode_request("m", {"x": np.float32([np.nan])}))
    (directory / WARMUP_FILE).write_bytes(tfrecord.frame_all([record]))
    made = server()

    with caplog.at_level(logging.INFO):
        servable = made.load()

    assert servable is made.servables[0]
    assert not servable.is_closed
    assert made.told() == [("one_batch", "failed")]
    assert "it could not be measured: InvalidArgument: x is not a number" in caplog.text


def test_a_version_that_loads_only_once_is_served(server):
    made = server()
    made.error = InvalidArgument

    servable = made.load()

    assert servable is made.servables[0]
    assert not servable.is_closed
    assert made.told() == [("one_batch", "failed")]
