from types import SimpleNamespace

import pytest

from slipway.errors import InvalidMeasurement
from slipway.scenario_settings import Clients
from slipway.scenarios import clients


@pytest.mark.parametrize(("theirs", "agrees"), [(1000, True), (901, True), (1099, True), (899, False), (1101, False)])
def test_two_generators_agree_within_the_bound(theirs, agrees):
    fault = clients.disagreement(1000.0, theirs, 0.1)

    assert (fault is None) == agrees
    if fault:
        assert fault.startswith(
            f"h2load gets {theirs} requests/s of this server and the wire tier 1000: over 10% apart"
        )


def test_a_server_that_answered_only_h2load_is_a_disagreement():
    assert clients.disagreement(0.0, 1.0, 0.1)


def taking(tls=()):
    return SimpleNamespace(bench=SimpleNamespace(windows=SimpleNamespace(tls=tls)), notes=[])


def test_what_cannot_be_measured_here_is_left_out_by_name(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    found = taking()

    assert clients._tiers(Clients(), found) == ["wire", "library"]
    assert found.notes == ["native tier (h2load): left out, there is no h2load here (Debian: nghttp2-client)"]


def test_over_tls_there_is_the_wire_tier_alone():
    found = taking(["grpc"])

    assert clients._tiers(Clients(), found) == ["wire"]
    assert [note.partition(" (")[0] for note in found.notes] == ["library tier", "native tier"]


def failing(tier):
    """A scenario in which every window of *tier* fails, and none of the others counts."""
    found = taking()
    found.bench.windows.settings = SimpleNamespace(warmup_s=0.1)
    found.name, found.protocols, found.invalid, found.windows = "clients", ["rest"], [], []

    def window(wanted):
        found.windows.append(wanted.tier)
        if wanted.tier == tier:
            raise InvalidMeasurement("h2load failed")

    found.window, found.median = window, lambda *_, **__: None
    found.counted = found.timeless = lambda *_: []
    return found


@pytest.fixture
def two_tiers(monkeypatch):
    monkeypatch.setattr(clients, "_one_payload", lambda *_: None)
    monkeypatch.setattr(clients, "_tiers", lambda *_: ["wire", "native"])
    monkeypatch.setattr(clients, "_versions", lambda _: "")
    return Clients(repetitions=3)


def test_an_h2load_that_fails_voids_the_scenario_and_ends_nothing(two_tiers):
    found = failing("native")
    clients.clients(two_tiers, found)

    assert found.invalid == ["h2load failed"]
    assert sorted(found.windows) == ["native", "wire", "wire", "wire"]


def test_a_load_generator_of_ours_that_fails_ends_the_scenario(two_tiers):
    with pytest.raises(InvalidMeasurement):
        clients.clients(two_tiers, failing("wire"))


def test_an_h2load_that_finds_another_rate_voids_the_scenario(monkeypatch):
    found = SimpleNamespace(protocols=["rest"], invalid=[], told={})
    found.value = lambda key, *_, **more: found.told.update({key: more["protocol"]})
    repetitions = [SimpleNamespace(throughput_rps=rate) for rate in (900.0, 1000.0, 1100.0)]
    slower = [SimpleNamespace(throughput_rps=rate) for rate in (700.0, 800.0, 2000.0)]

    clients._cross_check(Clients(), found, {"rest": repetitions}, {"rest": repetitions})
    assert found.invalid == []
    clients._cross_check(Clients(), found, {"rest": repetitions}, {"rest": slower})
    assert found.invalid == [
        (
            "REST: h2load gets 800 requests/s of this server and the wire tier 1000: over 10% apart, so that no number of the "
            "wire tier is to be believed before it is known why"
        )
    ]
    assert found.told == {"native_over_wire": "rest"}
    # Where no window counts, the reason is told already.
    clients._cross_check(Clients(), found, {"rest": []}, {"rest": slower})
    assert len(found.invalid) == 1
