import shutil
from concurrent.futures import CancelledError
from concurrent.futures import TimeoutError as StillWaiting

import pytest

from slipway_server.servables.configuration import (
    Change,
    Configuration,
    remove_model,
    replace_by,
    set_label,
    set_model,
)
from slipway_server.servables.manager import Manager, RetryPolicy
from slipway_server.servables.source import Polling, Source
from slipway_server.servables.storage import LocalStorage
from slipway_wire import messages, text_config
from slipway_wire.status import Aborted, FailedPrecondition, InvalidArgument, NotFound, Unavailable, Unknown

WAIT_S = 90.0
SOON_S = 0.05


class World:
    """A configuration over real directories, whose loads the test does by hand."""

    def __init__(self, fakes, tmp_path, testdata, **options):
        self.fakes, self.tmp_path, self.testdata = fakes, tmp_path, testdata
        self.loads = fakes.ByHand()
        self.failures = {}
        self.manager = Manager(
            lambda model, version, _path: fakes.FakeLoader(failures=self.failures.get((model, version), 0)),
            load_on=self.loads,
            unload_on=fakes.AtOnce(),
            later=fakes.Timers(),
            retry=RetryPolicy(0, 0.0),
        )
        self.source = Source(self.manager, lambda _: LocalStorage(), Polling(0.01, 0.0))
        self.configuration = Configuration(self.manager, self.source, lambda _: LocalStorage(), **options)

    def put(self, model, *versions):
        for version in versions:
            shutil.copytree(
                self.testdata / "saved_model_half_plus_two_2_versions" / "00000123",
                self.tmp_path / model / str(version),
            )

    def model(self, name, *, policy="", base_path=None, **labels):
        text = f'name: "{name}" base_path: "{base_path or self.tmp_path / name}" model_platform: "tensorflow"'
        policy = policy and f" model_version_policy {{ {policy} }}"
        listed = "".join(f' version_labels {{ key: "{label}" value: {version} }}' for label, version in labels.items())
        return text_config.parse(messages.ModelConfig, f"{text}{policy}{listed}".encode())

    def config(self, *models):
        config = messages.ModelServerConfig()
        config.model_config_list.SetInParent()
        config.model_config_list.config.extend(models)
        return config

    def load(self, number=1):
        """Wait for the next load, and do it."""
        for _ in range(number):
            self.fakes.wait_for(lambda: self.loads.waiting, "a load", WAIT_S)
            self.loads.step()

    def start(self, *models, loads=None, **options):
        future = self.configuration.start(self.config(*models), **options)
        self.load(len(models) if loads is None else loads)
        return future

    def change(self, edit, **options):
        return self.configuration.change(edit, **options)

    def states(self, model):
        return {status.version: status.state for status in self.manager.statuses(model)}


@pytest.fixture
def make_world(fakes, tmp_path, testdata):
    worlds = []

    def make(**options):
        worlds.append(World(fakes, tmp_path, testdata, **options))
        return worlds[-1]

    yield make
    for world in worlds:
        world.configuration.stop()


@pytest.fixture
def world(make_world):
    return make_world()


ALL = "all {}"


# --- start -----------------------------------------------------------------------------------------


def test_start_waits_until_every_model_has_a_version_that_serves(world):
    world.put("a", 1)
    world.put("b", 1)
    future = world.configuration.start(world.config(world.model("a"), world.model("b")))
    world.load()
    with pytest.raises(StillWaiting):
        future.result(SOON_S)
    world.load()

    assert future.result(WAIT_S) == Change(1, added=("a", "b"))
    assert sorted(world.configuration.current.models) == ["a", "b"]
    assert world.configuration.is_settled()


def test_start_fails_if_a_model_cannot_serve(world):
    world.put("a", 3)
    world.failures["a", 3] = 1

    with pytest.raises(Unknown) as failure:
        world.start(world.model("a")).result(WAIT_S)

    assert failure.value.message == (
        "1 servable(s) did not become available: {{{name: a version: 3} due to error: INVALID_ARGUMENT: broken}, }"
    )


def test_start_waits_without_limit_for_a_model_that_has_nothing_to_serve(world, fakes):
    future = world.configuration.start(world.config(world.model("a")))
    fakes.wait_for(lambda: "Could not find base path" in world.configuration.diagnosis("a"), "the diagnosis")
    with pytest.raises(StillWaiting):
        future.result(SOON_S)
    world.put("a", 1)
    world.load()

    assert future.result(WAIT_S)
    assert world.configuration.diagnosis("a") is None


def test_or_starts_with_what_is_there(world):
    world.put("b", 1)
    world.put("c", 1)
    world.failures["b", 1] = 1
    future = world.start(world.model("a"), world.model("b"), world.model("c"), loads=2, with_what_is_there=True)

    assert future.result(WAIT_S)
    assert world.configuration.is_settled()
    assert "Could not find base path" in world.configuration.diagnosis("a")
    assert world.configuration.diagnosis("b") == "version 1 is END: INVALID_ARGUMENT: broken"
    assert world.configuration.diagnosis("c") is None
    assert world.configuration.diagnosis("d") == "Model d is not configured"


def test_a_model_that_holds_up_the_start_can_be_removed_or_put_right(world):
    world.put("elsewhere", 1)
    world.put("b", 1)
    future = world.configuration.start(world.config(world.model("a"), world.model("c"), world.model("b")))
    world.load()
    with pytest.raises(StillWaiting):
        future.result(SOON_S)
    right = world.model("a", base_path=world.tmp_path / "elsewhere")
    world.change(set_model(right))
    world.load()
    world.change(remove_model("c"))

    assert future.result(WAIT_S) == Change(1, added=("a", "c", "b"))
    assert world.states("a") == {1: "AVAILABLE"}


def test_nobody_waits_for_a_model_that_somebody_else_has_removed(running):
    running.put("b", 1)
    future = running.change(set_model(running.model("b")))
    running.fakes.wait_for(lambda: running.loads.waiting, "the load")
    running.change(remove_model("b")).result(WAIT_S)

    assert future.result(WAIT_S) == Change(2, added=("b",))


def test_an_empty_list_starts_a_server_without_models(world):
    assert world.start().result(WAIT_S) == Change(1)


def test_labels_work_from_the_start(world):
    world.put("a", 1, 2)
    world.start(world.model("a", policy=ALL, old=1, new=2), loads=2).result(WAIT_S)

    assert [world.configuration.version_of("a", label) for label in ("old", "new", "none")] == [1, 2, None]


def test_a_label_that_points_nowhere_fails_the_start(world):
    world.put("a", 1)

    with pytest.raises(FailedPrecondition, match=r"^Request to assign label to version 7 of model a, which is not"):
        world.start(world.model("a", stable=7)).result(WAIT_S)


def test_unless_that_is_allowed(make_world):
    world = make_world(allows_any_label=True)
    world.put("a", 1)
    world.start(world.model("a", stable=7)).result(WAIT_S)

    assert world.configuration.version_of("a", "stable") == 7


# --- change ----------------------------------------------------------------------------------------


@pytest.fixture
def running(world):
    """Model a, version 1, serves."""
    world.put("a", 1)
    world.start(world.model("a", policy=ALL, stable=1)).result(WAIT_S)
    return world


def test_a_model_is_exchanged_for_another(running, fakes):
    running.put("b", 1)
    future = running.change(replace_by(running.config(running.model("b"))))
    with pytest.raises(StillWaiting):
        future.result(SOON_S)
    running.load()

    assert future.result(WAIT_S) == Change(2, added=("b",), removed=("a",))
    fakes.wait_for(lambda: running.states("a") == {1: "END"}, "the old model to be freed")
    assert running.states("b") == {1: "AVAILABLE"}
    assert running.configuration.version_of("a", "stable") is None


def test_one_model_is_added_changed_and_removed(running):
    running.put("b", 1)
    added = running.change(set_model(running.model("b")))
    running.load()
    assert added.result(WAIT_S) == Change(2, added=("b",))
    assert running.change(set_model(running.model("b", policy=ALL))).result(WAIT_S) == Change(3, changed=("b",))
    assert running.change(remove_model("b")).result(WAIT_S) == Change(4, removed=("b",))
    assert list(running.configuration.current.models) == ["a"]
    with pytest.raises(NotFound, match=r"^Model b is not configured; there are \['a'\]$"):
        running.change(remove_model("b")).result(WAIT_S)


def test_what_changes_nothing_makes_no_revision(running):
    same = replace_by(running.configuration.current.config)

    assert running.change(same).result(WAIT_S) == Change(1)


def test_a_change_made_for_another_revision_is_refused(running):
    """Two administrators: the second one has not seen what the first one did."""
    edits = [set_label("a", "one", 1), set_label("a", "two", 1)]
    first, second = [running.change(edit, revision=1) for edit in edits]

    assert first.result(WAIT_S) == Change(2, changed=("a",))
    with pytest.raises(Aborted, match=r"^The configuration is at revision 2, not 1"):
        second.result(WAIT_S)
    assert running.configuration.version_of("a", "two") is None


def test_a_dry_run_says_what_would_happen_and_does_nothing(running):
    running.put("b", 1)
    found = running.change(set_model(running.model("b")), dry_run=True).result(WAIT_S)

    assert found == Change(2, added=("b",))
    assert running.configuration.current.revision == 1
    with pytest.raises(InvalidArgument, match="to have an absolute path"):
        running.change(set_model(running.model("b", base_path="b")), dry_run=True).result(WAIT_S)


def test_a_change_that_cannot_be_changes_nothing(running):
    """TF Serving stores what it is about to refuse, and is left with half of it."""
    good, bad = running.model("b"), running.model("c", base_path="relative")

    with pytest.raises(InvalidArgument, match="Expected model c to have an absolute path or URI"):
        running.change(replace_by(running.config(good, bad))).result(WAIT_S)

    assert running.configuration.current.revision == 1
    assert list(running.configuration.current.models) == ["a"]
    assert running.states("b") == {}


def test_a_new_model_that_fails_is_told_and_its_configuration_stays(running):
    running.put("b", 5)
    running.failures["b", 5] = 1
    future = running.change(set_model(running.model("b")))
    running.load()

    with pytest.raises(Unknown) as failure:
        future.result(WAIT_S)
    assert failure.value.message == (
        "1 model(s) did not become available: {{{name: b version: 5} due to error: INVALID_ARGUMENT: broken}, }"
    )
    assert "b" in running.configuration.current.models


def test_a_new_model_without_anything_to_serve_is_told_at_once(running):
    """TF Serving's call hangs until the caller's deadline, or for ever."""
    with pytest.raises(Unknown, match=r"^1 model\(s\) did not become available: .*Could not find base path .*/b"):
        running.change(set_model(running.model("b"))).result(WAIT_S)
    running.put("b", 1)
    running.load()

    assert running.states("b") == {1: "AVAILABLE"}


def test_who_waits_no_more_leaves_the_change_in_force(running):
    running.put("b", 1)
    future = running.change(set_model(running.model("b")))
    running.fakes.wait_for(lambda: running.loads.waiting, "the load")
    future.cancel()
    running.load()

    with pytest.raises(CancelledError):
        future.result(WAIT_S)
    assert running.states("b") == {1: "AVAILABLE"}


def test_after_the_end_nothing_is_changed(running):
    running.configuration.stop()

    with pytest.raises(Unavailable):
        running.change(remove_model("a")).result(WAIT_S)


# --- labels ----------------------------------------------------------------------------------------


def test_a_label_moves_when_its_version_is_available_and_keeps_its_target_until_then(running):
    running.put("a", 2)
    future = running.change(set_label("a", "stable", 2))
    running.fakes.wait_for(lambda: running.configuration.current.revision == 2, "the change")
    assert running.configuration.version_of("a", "stable") == 1
    with pytest.raises(StillWaiting):
        future.result(SOON_S)
    running.load()

    assert future.result(WAIT_S) == Change(2, changed=("a",))
    assert running.configuration.version_of("a", "stable") == 2


def test_a_label_on_a_version_that_fails_stays_where_it_was(running):
    running.put("a", 2)
    running.failures["a", 2] = 1
    future = running.change(set_label("a", "stable", 2))
    running.load()

    with pytest.raises(FailedPrecondition, match=r"^Request to assign label to version 2 of model a, which is not"):
        future.result(WAIT_S)
    assert running.configuration.version_of("a", "stable") == 1


def test_a_label_comes_with_a_version_that_has_been_unloaded_before(make_world):
    """How its former life ended says nothing of the one that begins."""
    world = make_world()
    world.put("a", 1, 2)
    only, both = "specific { versions: 1 }", "specific { versions: 1 versions: 2 }"
    world.start(world.model("a", policy=both), loads=2).result(WAIT_S)
    world.change(set_model(world.model("a", policy=only))).result(WAIT_S)
    world.fakes.wait_for(lambda: world.states("a")[2] == "END", "the end of version 2")

    future = world.change(set_model(world.model("a", policy=both, new=2)))
    with pytest.raises(StillWaiting):
        future.result(SOON_S)
    world.load()

    assert future.result(WAIT_S).changed == ("a",)
    assert world.configuration.version_of("a", "new") == 2


@pytest.mark.parametrize("label", ["stable", "new"])
def test_a_label_on_a_version_that_is_not_there_is_refused_as_by_tf_serving(running, label):
    with pytest.raises(FailedPrecondition) as refusal:
        running.change(set_label("a", label, 9)).result(WAIT_S)

    assert refusal.value.message == (
        "Request to assign label to version 9 of model a, which is not currently available for inference and not "
        "about to be: found versions [1], of which the version policy wants [1]"
    )
    assert running.configuration.current.revision == 1


def test_with_the_flag_only_a_label_in_use_needs_a_version_that_is_there(make_world):
    world = make_world(allows_any_label=True)
    world.put("a", 1)
    world.start(world.model("a", stable=1)).result(WAIT_S)
    world.change(set_label("a", "new", 9)).result(WAIT_S)

    assert world.configuration.version_of("a", "new") == 9
    with pytest.raises(FailedPrecondition):
        world.change(set_label("a", "stable", 9)).result(WAIT_S)


def test_a_label_is_taken_away(running):
    running.change(set_label("a", "stable", None)).result(WAIT_S)

    assert running.configuration.version_of("a", "stable") is None
    with pytest.raises(NotFound, match=r"^Model a has no label stable; it has \[\]$"):
        running.change(set_label("a", "stable", None)).result(WAIT_S)
