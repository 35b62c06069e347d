import itertools
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from slipway_server.servables.manager import Manager, RetryPolicy, settled
from slipway_server.servables.policy import availability_preserving, resource_preserving
from slipway_wire.status import Code, NotFound

WAIT_S = 90.0
HERE = "/none"


class World:
    """A manager whose work waits for the test, and the loaders it asks for."""

    def __init__(self, fakes, retries=0, failures=(), policy=availability_preserving):
        self.fakes = fakes
        self.loads, self.unloads, self.timers = fakes.ByHand(), fakes.ByHand(), fakes.Timers()
        self.loaders = {}
        self.history = []

        def make_loader(model, version, path):
            failing = dict(failures).get(version, 0)
            key = (model, version) if path == HERE else (model, version, path)
            return self.loaders.setdefault(key, fakes.FakeLoader(failures=failing))

        self.manager = Manager(
            make_loader,
            load_on=self.loads,
            unload_on=self.unloads,
            later=self.timers,
            retry=RetryPolicy(retries, 7.0),
            policy=policy,
            on_change=lambda model, status: self.history.append((model, status.version, status.state)),
        )

    def want(self, *versions, model="m", path=HERE):
        self.manager.aspire(model, dict.fromkeys(versions, path))

    def states(self, model="m"):
        return {status.version: status.state for status in self.manager.statuses(model)}


@pytest.fixture
def world(fakes):
    return World(fakes)


def test_a_version_goes_through_its_states_and_is_lent_once_available(world):
    world.want(1)
    assert world.states() == {1: "LOADING"}
    with pytest.raises(NotFound, match=r"^Servable not found for request: Latest\(m\)$"):
        world.manager.lend("m")
    world.loads.step()

    with world.manager.lend("m") as handle:
        assert (handle.version, handle.servable) == (1, world.loaders["m", 1].servable)
    assert world.history == [("m", 1, "LOADING"), ("m", 1, "AVAILABLE")]


def test_the_old_version_serves_until_the_new_one_is_available(world):
    world.want(1)
    world.loads.step()
    world.want(2)

    assert world.manager.lend("m").version == 1
    world.loads.step()
    assert world.manager.lend("m").version == 2
    assert world.states() == {2: "AVAILABLE", 1: "UNLOADING"}


def test_the_old_version_goes_on_if_the_new_one_fails(fakes):
    world = World(fakes, failures={2: 1})
    world.want(1)
    world.loads.step()
    world.want(2)
    world.loads.step()

    assert world.states() == {2: "END", 1: "AVAILABLE"}
    newest = world.manager.statuses("m")[0]
    assert (newest.code, newest.message) == (Code.INVALID_ARGUMENT, "broken")
    assert world.manager.lend("m").version == 1


def test_unloading_waits_for_its_own_requests_only(world):
    """In TF Serving one slow request delays every load and unload of all models."""
    world.want(1)
    world.want(1, model="other")
    world.loads.step()
    world.loads.step()
    held, unrelated = world.manager.lend("m"), world.manager.lend("other")
    world.want(2)
    world.loads.step()

    assert world.states()[1] == "UNLOADING"
    assert not world.unloads.waiting
    assert not world.loaders["m", 1].servable.is_closed
    with pytest.raises(NotFound, match=r"Specific\(m, 1\)"):
        world.manager.lend("m", 1)
    held.release()
    held.release()
    world.unloads.step()
    assert world.loaders["m", 1].servable.is_closed
    assert world.states() == {2: "AVAILABLE", 1: "END"}
    unrelated.release()


def test_a_version_that_nobody_wants_any_more_is_unloaded(world):
    world.want(1, 2)
    world.loads.step()
    world.loads.step()
    world.want()
    world.unloads.step()
    world.unloads.step()

    assert world.states() == {2: "END", 1: "END"}
    assert [status.code for status in world.manager.statuses("m")] == [Code.OK, Code.OK]


def test_a_failed_load_is_tried_again_at_intervals(fakes):
    world = World(fakes, retries=2, failures={1: 2})
    world.want(1)
    world.loads.step()
    assert world.states() == {1: "LOADING"}
    assert not world.loads.waiting

    assert world.timers.ring() == 7.0
    world.loads.step()
    assert world.timers.ring() == 7.0
    world.loads.step()

    assert world.states() == {1: "AVAILABLE"}


def test_tries_come_to_an_end(fakes):
    world = World(fakes, retries=1, failures={1: 5})
    world.want(1)
    world.loads.step()
    world.timers.ring()
    world.loads.step()

    assert world.states() == {1: "END"}
    assert not world.timers.waiting


def test_a_version_that_is_dropped_between_tries_is_not_tried_again(fakes):
    world = World(fakes, retries=5, failures={1: 5})
    world.want(1)
    world.loads.step()
    world.want(2)

    assert world.states() == {2: "LOADING", 1: "END"}
    assert world.manager.statuses("m")[1].code is Code.CANCELLED
    world.timers.ring()
    world.loads.step()
    assert world.states() == {2: "AVAILABLE", 1: "END"}
    assert not world.loads.waiting


def test_a_version_that_is_dropped_while_it_loads_never_serves(world):
    servable = world.fakes.HalfPlusTwo()

    def load():
        world.want()
        return servable

    world.loaders["m", 1] = SimpleNamespace(load=load)
    world.want(1)
    world.loads.step()

    assert world.manager.statuses("m")[0].code is Code.CANCELLED
    assert servable.is_closed


def test_a_failed_version_is_tried_anew_only_after_it_was_dropped(fakes):
    world = World(fakes, failures={1: 1})
    world.want(1)
    world.loads.step()
    world.want(1)
    assert world.states() == {1: "END"}
    assert not world.loads.waiting

    world.want()
    world.want(1)
    world.loads.step()

    assert world.states() == {1: "AVAILABLE"}


def test_a_version_wanted_again_while_it_unloads_is_loaded_afresh(world):
    world.want(1)
    world.loads.step()
    held = world.manager.lend("m")
    world.want()
    world.want(1)
    assert world.states() == {1: "UNLOADING"}
    held.release()
    world.unloads.step()
    world.loaders.clear()
    world.loads.step()

    assert world.states() == {1: "AVAILABLE"}
    assert not world.manager.lend("m").servable.is_closed


def test_going_back_to_a_version_that_still_serves_needs_no_load(fakes):
    world = World(fakes, failures={2: 1})
    world.want(1)
    world.loads.step()
    world.want(2)
    world.loads.step()
    world.want(1)

    assert world.states() == {2: "END", 1: "AVAILABLE"}
    assert settled(world.manager, ["m"])
    assert not world.unloads.waiting


def test_an_unexpected_error_of_a_loader_is_the_versions_status(fakes):
    world = World(fakes)
    world.loaders["m", 1] = SimpleNamespace(load=lambda: 1 / 0)
    world.want(1)
    world.loads.step()

    (status,) = world.manager.statuses("m")
    assert (status.state, status.code) == ("END", Code.UNKNOWN)
    assert "division by zero" in status.message


def test_models_do_not_wait_for_one_another(fakes):
    world = World(fakes, retries=5, failures={1: 5})
    world.want(1)
    world.want(2, model="other")
    world.loads.step()
    world.loads.step()

    assert world.states("other") == {2: "AVAILABLE"}
    assert not settled(world.manager, ["m", "other"])


def test_an_unknown_model_has_no_versions_and_never_settles(world):
    assert world.manager.statuses("unknown") == []
    assert not world.manager.has_settled("unknown")


def test_requests_on_many_threads_never_meet_a_freed_version(fakes):
    """Versions come and go under load; who holds a handle holds a live servable."""
    manager = Manager(
        lambda *_: fakes.FakeLoader(),
        load_on=ThreadPoolExecutor(1),
        unload_on=ThreadPoolExecutor(1),
        later=fakes.Timers(),
    )
    manager.aspire("m", {0: HERE})
    fakes.wait_for(lambda: settled(manager, ["m"]), "the version")
    done = threading.Event()

    def ask():
        asked = 0
        while not done.is_set():
            with manager.lend("m") as handle:
                assert not handle.servable.is_closed
            asked += 1
        return asked

    with ThreadPoolExecutor(4) as pool:
        askers = [pool.submit(ask) for _ in range(4)]
        for version in range(1, 30):
            manager.aspire("m", {version: HERE})
            fakes.wait_for(lambda: settled(manager, ["m"]), "the version")
        done.set()
        assert all(asker.result(WAIT_S) for asker in askers)


class ManagerMachine(RuleBasedStateMachine):
    """Any order of wishes, loads that succeed or fail, unloads, leases and timers."""

    fakes = None
    policy = availability_preserving

    def __init__(self):
        super().__init__()
        self.world = World(self.fakes, retries=1, policy=type(self).policy)
        self.handles = []
        self.serves = self.wants_any = False

    @rule(versions=st.sets(st.integers(1, 3)), failures=st.integers(0, 2), path=st.sampled_from(["/a", "/b"]))
    def want(self, versions, failures, path):
        for version in range(1, 4):
            if self.world.states().get(version) in {None, "END"}:
                self.world.loaders["m", version, path] = self.fakes.FakeLoader(failures=failures)
        self.world.want(*versions, path=path)
        self.wants_any = bool(versions)

    @precondition(lambda self: self.world.loads.waiting)
    @rule()
    def load(self):
        self.world.loads.step()

    @precondition(lambda self: self.world.unloads.waiting)
    @rule()
    def unload(self):
        self.world.unloads.step()

    @precondition(lambda self: self.world.timers.waiting)
    @rule()
    def ring(self):
        self.world.timers.ring()

    @precondition(lambda self: "AVAILABLE" in self.world.states().values())
    @rule()
    def lend(self):
        self.handles.append(self.world.manager.lend("m"))

    @precondition(lambda self: self.handles)
    @rule()
    def release(self):
        self.handles.pop(0).release()

    @invariant()
    def lent_versions_are_alive(self):
        assert not any(handle.servable.is_closed for handle in self.handles)

    @invariant()
    def a_model_that_serves_never_stops_while_anything_is_wanted(self):
        available = "AVAILABLE" in self.world.states().values()
        assert available or not (self.serves and self.wants_any)
        self.serves = available

    @invariant()
    def one_step_at_a_time(self):
        """A version that waits for its next try holds up no other."""
        unloading = [state for state in self.world.states().values() if state == "UNLOADING"]
        assert len(self.world.loads.waiting) + len(unloading) <= 1


def test_whatever_happens_the_invariants_hold(fakes):
    machine = type("Machine", (ManagerMachine,), {"fakes": fakes})
    run_state_machine_as_test(machine, settings=settings(max_examples=60, stateful_step_count=30, deadline=None))


class FrugalMachine(ManagerMachine):
    """The same with the policy for models that do not fit twice."""

    policy = resource_preserving

    @rule(versions=st.sets(st.integers(1, 3), max_size=1), failures=st.integers(0, 2), path=st.sampled_from("ab"))
    def want(self, versions, failures, path):
        super().want(versions, failures, path)

    @invariant()
    def a_model_that_serves_never_stops_while_anything_is_wanted(self):
        """It may."""

    @invariant()
    def no_two_are_in_memory(self):
        lives = self.world.manager._models.get("m", [])
        assert sum(one.servable is not None for one in lives) + len(self.world.loads.waiting) <= 1


def test_the_frugal_policy_never_holds_two_versions_where_one_is_wanted(fakes):
    machine = type("Machine", (FrugalMachine,), {"fakes": fakes})
    run_state_machine_as_test(machine, settings=settings(max_examples=60, stateful_step_count=30, deadline=None))


def test_a_version_that_lies_elsewhere_now_takes_over_without_a_gap(world):
    """A configuration with another base path is another model of the same name and number; TF Serving keeps the old."""
    world.want(1)
    world.loads.step()
    first = world.loaders["m", 1]
    held = world.manager.lend("m", 1)
    world.want(1, path="/elsewhere")
    assert world.manager.lend("m", 1).servable is first.servable
    world.loads.step()

    assert world.manager.lend("m", 1).servable is world.loaders["m", 1, "/elsewhere"].servable
    assert world.states() == {1: "AVAILABLE"}
    assert not first.servable.is_closed
    held.release()


def test_a_failed_version_is_tried_anew_when_told_to(fakes):
    world = World(fakes, failures={1: 1})
    world.want(1)
    world.loads.step()
    assert world.manager.failed("m") == {1}
    world.manager.retry("m", {1, 2})
    world.loads.step()

    assert world.states() == {1: "AVAILABLE"}
    assert world.manager.failed("m") == set()


def test_a_version_that_waits_for_its_next_try_holds_up_no_other(fakes):
    world = World(fakes, retries=5, failures={2: 5})
    world.want(1, 2)
    world.loads.step()
    world.loads.step()

    assert world.states() == {2: "LOADING", 1: "AVAILABLE"}


def test_a_load_that_is_not_wanted_when_its_turn_comes_is_not_begun(world):
    world.want(1)
    loader = world.loaders["m", 1] = SimpleNamespace(load=lambda: pytest.fail("loaded in vain"))
    world.want()
    world.loads.step()

    assert loader
    assert world.manager.statuses("m")[0].code is Code.CANCELLED


def test_of_what_has_ended_the_last_few_are_remembered(world):
    for version in range(100):
        world.want(version)
        world.loads.step()
        while world.unloads.waiting:
            world.unloads.step()

    assert list(world.states()) == list(range(99, 82, -1))
    for number in range(400):
        world.want(1, model=f"m{number}")
        world.loads.step()
        world.want(model=f"m{number}")
        world.unloads.step()
    assert len(world.manager.models()) < 300
    assert world.states() != {}


def test_models_that_never_had_a_version_leave_nothing_behind(world):
    world.want(model="never")

    assert world.manager.models() == []


def test_listeners_hear_of_the_new_version_before_the_old_one_goes(world):
    """Labels follow AVAILABLE; a label on the old version must have moved when it goes."""
    heard = []
    world.manager.tell(
        lambda _model, status: heard.append((status.version, status.state, list(world.states().items())))
    )
    world.want(1)
    world.loads.step()
    world.want(2)
    world.loads.step()

    available = next(states for version, state, states in heard if (version, state) == (2, "AVAILABLE"))
    assert available == [(2, "AVAILABLE"), (1, "AVAILABLE")]


def test_history_follows_the_table(fakes):
    world = World(fakes, retries=1, failures={2: 1})
    for versions in ([1], [1, 2], [2], [], [1]):
        world.want(*versions)
        while world.loads.waiting or world.unloads.waiting or world.timers.waiting:
            for hand in (world.loads, world.unloads):
                if hand.waiting:
                    hand.step()
            if world.timers.waiting:
                world.timers.ring()

    of_one = [state for _, version, state in world.history if version == 1]
    lives = "".join("|" if state == "LOADING" else "" for state in of_one)
    assert len(lives) == 2
    assert all(later != earlier for earlier, later in itertools.pairwise(of_one))
    assert of_one == ["LOADING", "AVAILABLE", "UNLOADING", "END", "LOADING", "AVAILABLE"]
