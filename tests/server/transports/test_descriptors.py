import resource

import pytest

from slipway_server.transports import descriptors


@pytest.fixture
def limits():
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield before
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_the_soft_limit_is_raised_as_far_as_is_of_use_and_allowed(limits):
    _, hard = limits
    most = 2**15 if hard == resource.RLIM_INFINITY else min(2**15, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most - 1, hard))

    descriptors.make_room()

    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (most, hard)


def test_a_limit_that_is_higher_stays(monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda _: (2**20, 2**20))
    monkeypatch.setattr(resource, "setrlimit", lambda *_: pytest.fail("it was changed"))

    descriptors.make_room()


def test_what_a_sandbox_forbids_stays(monkeypatch):
    def refuse(*_):
        raise PermissionError

    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, 4096))
    monkeypatch.setattr(resource, "setrlimit", refuse)

    descriptors.make_room()


@pytest.mark.parametrize(
    ("soft", "connections"),
    [(1024, 384), (2**15, 10_000), (2**20, 10_000), (16_384, 6144), (32, 16), (resource.RLIM_INFINITY, 10_000)],
)
def test_grpc_leaves_descriptors_for_the_rest(monkeypatch, soft, connections):
    monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, soft))

    assert descriptors.max_grpc_connections() == connections


def test_both_protocols_together_leave_an_eighth(monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda _: (8000, 8000))

    assert descriptors.max_grpc_connections() + descriptors.max_rest_connections() == 7000
