import os
import shutil
import threading
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway_server.config_files import All, Latest, ModelConfig, Specific
from slipway_server.servables.source import BasePath, Clock, Polling, Source, aspired_versions, read_versions
from slipway_server.servables.storage import LocalStorage

WAIT_S = 90.0
SETTLE_S = 2.0


class Hands:
    """A clock that a test sets; it stands still otherwise."""

    def __init__(self):
        self.s = 1000.0
        self.wall_s = 4e9  # Later than any file of the test: files look old unless said otherwise.
        self.at_pause = lambda: None

    def clock(self):
        return Clock(lambda: self.s, lambda: self.wall_s, self.pause)

    def pause(self, seconds):
        self.forward(seconds)
        self.at_pause()

    def forward(self, seconds):
        self.s += seconds
        self.wall_s += seconds


class FakeManager:
    """Takes note of what is wanted."""

    def __init__(self):
        self.wanted = {}
        self.broken = {}
        self.retried = []
        self.told = threading.Condition()

    def aspire(self, model, versions):
        with self.told:
            self.wanted[model] = dict(versions)
            self.told.notify_all()

    def failed(self, model):
        return self.broken.get(model, set())

    def retry(self, model, versions):
        with self.told:
            self.retried.append((model, versions))
            self.told.notify_all()

    def wait_for(self, condition):
        with self.told:
            assert self.told.wait_for(condition, WAIT_S), self.wanted


@pytest.fixture
def hands():
    return Hands()


@pytest.fixture
def version(testdata, tmp_path):
    """`version(n)` puts a real SavedModel below tmp_path."""

    def put(number, base=tmp_path):
        shutil.copytree(testdata / "saved_model_half_plus_two_2_versions" / "00000123", base / str(number))
        return base / str(number)

    return put


def test_a_version_is_a_child_whose_whole_name_is_a_decimal_int64(tmp_path):
    names = ["1", "00000123", "20170111173521", "0", "9223372036854775807"]
    others = ["9223372036854775808", "1_0", "v1", "1.0", "1a", "tmp", "٣", "1.partial"]
    for name in [*names, *others]:
        (tmp_path / name).mkdir()

    assert read_versions(LocalStorage(), str(tmp_path)) == {int(name): str(tmp_path / name) for name in names}


def test_of_two_names_for_one_version_one_wins(tmp_path):
    (tmp_path / "001").mkdir()
    (tmp_path / "1").mkdir()

    assert read_versions(LocalStorage(), str(tmp_path)) == {1: str(tmp_path / "001")}


@pytest.mark.parametrize(
    ("policy", "found", "aspired"),
    [
        (Latest(), [1, 3, 2], {3}),
        (Latest(0), [1, 2], {2}),
        (Latest(2), [1, 3, 2], {2, 3}),
        (Latest(), [], set()),
        (All(), [1, 3], {1, 3}),
        (Specific(frozenset({1, 7})), [1, 2], {1}),
        (Specific(frozenset()), [1, 2], set()),
    ],
)
def test_policies_choose(policy, found, aspired):
    assert aspired_versions(policy, found) == aspired


@given(st.sets(st.integers()), st.integers(1, 5))
def test_latest_takes_the_highest(found, number):
    aspired = aspired_versions(Latest(number), found)

    assert len(aspired) == min(number, len(found))
    assert all(one > other for one in aspired for other in found - aspired)


# --- one base path ---------------------------------------------------------------------------------


class Looking:
    """A base path and who looks at it."""

    def __init__(self, directory, hands, policy=None, storage=None):
        self.model = ModelConfig("m", str(directory), policy or Latest())
        self.base_path = BasePath(storage or LocalStorage(), SETTLE_S, hands.clock())

    def __call__(self, failed=()):
        finding, self.changed = self.base_path.look(self.model, failed)
        return finding

    def versions(self, failed=()):
        found = self(failed).versions
        return None if found is None else sorted(found)


@pytest.fixture
def looking(tmp_path, hands):
    return Looking(tmp_path, hands)


def test_what_is_there_at_start_is_loaded_at_once(looking, version):
    version(1)

    assert looking.versions() == [1]
    assert looking().problem is None


def test_at_start_files_written_a_moment_ago_are_looked_at_twice(looking, version, hands):
    """Nobody waits for the settling time at start, unless somebody is still copying."""
    directory = version(1)
    hands.wall_s = directory.joinpath("saved_model.pb").stat().st_ctime
    assert looking.versions() == [1]

    again = Looking(directory.parent, hands)
    hands.at_pause = lambda: directory.joinpath("saved_model.pb").write_bytes(b"longer than before" * 1000)
    assert again().arriving == {1}
    hands.forward(SETTLE_S)
    assert again.versions() == [1]


def test_a_new_version_is_loaded_once_it_has_stopped_changing(looking, version, hands):
    version(1)
    assert looking.versions() == [1]
    directory = version(2)
    hands.wall_s = max(path.stat().st_ctime for path in directory.rglob("*"))

    finding = looking()
    assert (sorted(finding.versions), finding.arriving) == ([1], {2})
    assert "Version 2 of servable m is not loaded yet" in finding.problem
    hands.forward(SETTLE_S / 2)
    (directory / "assets.extra").mkdir()
    (directory / "assets.extra" / "late").write_text("late")
    assert looking.versions() == [1]
    hands.forward(SETTLE_S / 2)
    hands.wall_s = 0.0  # A storage whose clock is ahead: what counts then is what was seen.
    assert looking.versions() == [1]
    hands.forward(SETTLE_S / 2)
    assert looking.versions() == [2]


def test_a_version_that_lacks_files_is_waited_for_longer_and_then_tried_so_that_its_status_says_why(
    looking, version, hands
):
    version(1)
    assert looking.versions() == [1]
    directory = version(2)
    (directory / "variables" / "variables.data-00000-of-00001").write_bytes(b"four")
    hands.wall_s = 0.0

    hands.forward(2 * SETTLE_S)
    assert "variables.data-00000-of-00001 is cut off: it has 4 of 12 bytes" in looking().problem
    hands.forward(2 * SETTLE_S)
    assert looking.versions() == [1]
    hands.forward(15 * SETTLE_S)
    assert looking.versions() == [2]


def test_while_the_only_version_is_exchanged_by_hand_the_old_one_goes_on(looking, version, hands):
    directory = version(1)
    assert looking.versions() == [1]
    shutil.rmtree(directory)
    version(2)
    hands.wall_s = 0.0

    assert looking.versions() is None
    hands.forward(SETTLE_S)
    assert looking.versions() == [2]


def test_a_base_path_that_can_be_listed_and_is_empty_serves_nothing(looking, version):
    directory = version(1)
    assert looking.versions() == [1]
    shutil.rmtree(directory)

    finding = looking()
    assert finding.versions == {}
    assert finding.problem.startswith("No versions of servable m found under base path")


def test_storage_that_vanishes_changes_nothing(tmp_path, version, hands):
    base = tmp_path / "base"
    version(1, base)
    looking = Looking(base, hands)
    assert looking.versions() == [1]
    base.rename(tmp_path / "away")

    finding = looking()
    assert finding.versions is None
    assert finding.problem.startswith(f"Could not find base path {base} for servable m: No such file or directory")


@pytest.mark.parametrize("error", [OSError(5, "Input/output error"), OSError(116, "Stale file handle")])
def test_storage_that_errs_changes_nothing(tmp_path, version, hands, error):
    class Failing(LocalStorage):
        fails = False

        def names(self, directory):
            if self.fails:
                raise error
            return super().names(directory)

    version(1)
    storage = Failing()
    looking = Looking(tmp_path, hands, storage=storage)
    assert looking.versions() == [1]
    storage.fails = True

    assert looking.versions() is None
    assert error.strerror in looking().problem


def test_what_was_unmounted_is_no_empty_base_path(tmp_path, version, hands):
    """An empty mount point is what is left of a volume that went away."""

    class Unmounted(LocalStorage):
        is_mounted = True

        def names(self, directory):
            return super().names(directory) if self.is_mounted else []

        def device(self, directory):
            return 7 if self.is_mounted else 1

    version(1)
    storage = Unmounted()
    looking = Looking(tmp_path, hands, storage=storage)
    assert looking.versions() == [1]
    storage.is_mounted = False

    finding = looking()
    assert finding.versions is None
    assert "unmounted" in finding.problem


def test_a_failed_version_is_worth_another_try_when_its_directory_has_changed_and_settled(looking, version, hands):
    directory = version(1)
    looking()
    looking(failed={1})
    assert looking.changed == set()

    (directory / "saved_model.pb").write_bytes(b"mended")
    hands.wall_s = (directory / "saved_model.pb").stat().st_ctime
    looking(failed={1})
    assert looking.changed == set()
    hands.forward(SETTLE_S)
    looking(failed={1})
    assert looking.changed == {1}
    looking(failed={1})
    assert looking.changed == set()


def test_in_the_steady_state_a_look_is_one_listing(tmp_path, version, hands):
    calls = []

    class Counting(LocalStorage):
        def names(self, directory):
            calls.append(directory)
            return super().names(directory)

        def tree(self, directory):
            calls.append(directory)
            return super().tree(directory)

    version(1)
    looking = Looking(tmp_path, hands, storage=Counting())
    looking()
    calls.clear()
    looking()

    assert calls == [str(tmp_path)]


def test_a_second_name_for_a_version_changes_nothing_and_is_told_once(looking, version, tmp_path, caplog):
    """01 comes before 1 in the alphabet; loaded in its place, it would be half-copied as well."""
    version(1)
    assert looking().versions == {1: str(tmp_path / "1")}
    (tmp_path / "01").mkdir()

    assert looking().versions == looking().versions == {1: str(tmp_path / "1")}
    assert caplog.text.count("['01'] name versions that have another directory, too") == 1


def test_a_version_whose_directory_is_renamed_arrives_anew(looking, version, tmp_path, hands):
    version(1)
    assert looking().versions == {1: str(tmp_path / "1")}
    (tmp_path / "1").rename(tmp_path / "001")

    assert looking().versions == {1: str(tmp_path / "001")}


def test_missing_specific_versions_are_told(tmp_path, version, hands):
    version(1)
    finding = Looking(tmp_path, hands, Specific(frozenset({1, 7})))()

    assert sorted(finding.versions) == [1]
    assert finding.problem.startswith("Version 7 of servable m, which was requested, was not found")


# --- threads ---------------------------------------------------------------------------------------


@pytest.fixture
def watched():
    """`watched(*models, period_s=…)` gives a source that is stopped after the test, and its manager."""
    sources = []

    def watch(*models, period_s=0.005, storage_of=lambda _: LocalStorage(), at_once=False):
        manager = FakeManager()
        source = Source(manager, storage_of, Polling(period_s, 0.0))
        sources.append(source)
        source.update(models, at_once=at_once)
        return SimpleNamespace(source=source, manager=manager)

    yield watch
    for source in sources:
        source.stop()


def test_a_base_path_that_hangs_delays_no_other_model(tmp_path, version, watched):
    """One missing or slow path stops TF Serving's poll for all models."""
    gate = threading.Event()

    class Hanging(LocalStorage):
        def names(self, directory):
            assert gate.wait(WAIT_S)
            return super().names(directory)

    version(1, tmp_path / "b")
    models = [
        ModelConfig("a", str(tmp_path / "b")),
        ModelConfig("b", str(tmp_path / "b")),
        ModelConfig("c", "/nowhere"),
    ]
    storages = iter([Hanging(), LocalStorage(), LocalStorage()])
    running = watched(*models, storage_of=lambda _: next(storages))
    running.manager.wait_for(lambda: "b" in running.manager.wanted)
    assert "a" not in running.manager.wanted
    running.source.update(models[1:])
    gate.set()

    assert running.manager.wanted["a"] == {}


def test_a_model_that_is_no_longer_watched_aspires_to_nothing(tmp_path, version, watched):
    version(1)
    running = watched(ModelConfig("a", str(tmp_path)))
    running.manager.wait_for(lambda: running.manager.wanted.get("a") == {1: str(tmp_path / "1")})
    running.source.update([])

    assert running.manager.wanted == {"a": {}}


def test_a_policy_that_changes_is_followed_at_once(tmp_path, version, watched):
    version(1)
    version(2)
    running = watched(ModelConfig("a", str(tmp_path)), period_s=0)
    running.manager.wait_for(lambda: sorted(running.manager.wanted.get("a", ())) == [2])
    running.source.update([ModelConfig("a", str(tmp_path), All())])

    running.manager.wait_for(lambda: sorted(running.manager.wanted["a"]) == [1, 2])


def test_polling_finds_what_is_new_and_tries_again_what_has_changed(tmp_path, version, watched):
    version(1)
    running = watched(ModelConfig("a", str(tmp_path)))
    running.manager.wait_for(lambda: 1 in running.manager.wanted.get("a", ()))
    running.manager.broken["a"] = {2}
    directory = version(2)
    running.manager.wait_for(lambda: 2 in running.manager.wanted["a"])
    os.utime(directory / "saved_model.pb")

    running.manager.wait_for(lambda: ("a", {2}) in running.manager.retried)


def test_polling_goes_on_after_an_unexpected_failure(tmp_path, version, watched):
    """A thread that died in silence would leave the server with old versions for good."""

    class Failing(LocalStorage):
        calls = 0

        def names(self, directory):
            self.calls += 1
            if self.calls == 1:
                raise RuntimeError("first look fails")
            return super().names(directory)

    version(1)
    storage = Failing()
    running = watched(ModelConfig("a", str(tmp_path)), storage_of=lambda _: storage)

    running.manager.wait_for(lambda: 1 in running.manager.wanted.get("a", ()))


def test_a_period_of_zero_looks_once_and_when_told(tmp_path, version, watched):
    version(1)
    looks = threading.Semaphore(0)
    running = watched(ModelConfig("a", str(tmp_path)), period_s=0)
    running.source.tell(lambda *_: looks.release())
    running.manager.wait_for(lambda: 1 in running.manager.wanted.get("a", ()))
    version(2)
    running.source.look_now("a")

    running.manager.wait_for(lambda: 2 in running.manager.wanted["a"])


def test_a_negative_period_never_looks_at_start_but_does_when_told(tmp_path, version, watched):
    version(1)
    running = watched(ModelConfig("a", str(tmp_path)), period_s=-1)
    assert running.manager.wanted == {}
    running.source.look_now()

    running.manager.wait_for(lambda: 1 in running.manager.wanted.get("a", ()))


def test_what_is_wrong_is_told_once_and_when_it_is_mended(tmp_path, version, watched, caplog):
    looks = threading.Semaphore(0)
    caplog.set_level("INFO")
    running = watched(ModelConfig("a", str(tmp_path)))
    running.source.tell(lambda *_: looks.release())
    for _ in range(3):
        assert looks.acquire(timeout=WAIT_S)
    assert caplog.text.count("No versions of servable a found") == 1
    version(1)
    running.manager.wait_for(lambda: 1 in running.manager.wanted.get("a", ()))

    assert "servable a: found [1]" in caplog.text
