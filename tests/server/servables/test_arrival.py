import shutil
import subprocess
from types import SimpleNamespace

import pytest

from slipway_server.servables.arrival import Arrival, VerifiedLoader, missing, verify
from slipway_server.servables.storage import FileState, LocalStorage
from slipway_wire.manifest import MANIFEST_FILE
from slipway_wire.status import DataLoss, Unknown


@pytest.fixture
def directory(testdata, tmp_path):
    """A SavedModel that a test may damage."""
    shutil.copytree(testdata / "saved_model_half_plus_two_2_versions" / "00000123", tmp_path / "1")
    return tmp_path / "1"


def lacking(directory):
    return missing(LocalStorage(), str(directory), LocalStorage().tree(str(directory)))


def test_every_model_of_the_test_data_is_whole(testdata):
    versions = [path.parent for path in testdata.rglob("saved_model.pb")]

    assert len(versions) >= 6
    assert {version: lacking(version) for version in versions} == dict.fromkeys(versions)


def test_a_tflite_model_is_whole(testdata):
    assert lacking(testdata / "saved_model_half_plus_two_tflite" / "00000123") is None


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda d: (d / "saved_model.pb").unlink(), "saved_model.pb is missing"),
        (lambda d: (d / "saved_model.pb").write_bytes(b""), "saved_model.pb is empty"),
        (
            lambda d: (d / "variables/variables.index").unlink(),
            "variables/variables.index is missing, though variables.data-00000-of-00001 is there",
        ),
        (
            lambda d: (d / "variables/variables.index").write_bytes(b"half an index"),
            "variables/variables.index is cut off or damaged (13 bytes)",
        ),
        (
            lambda d: (d / "variables/variables.data-00000-of-00001").unlink(),
            "variables/variables.data-00000-of-00001 is missing",
        ),
        (
            lambda d: (d / "variables/variables.data-00000-of-00001").write_bytes(b"12345"),
            "variables/variables.data-00000-of-00001 is cut off: it has 5 of 12 bytes",
        ),
    ],
)
def test_what_is_missing_is_named(directory, damage, message):
    damage(directory)

    assert lacking(directory) == message


# --- the manifest ----------------------------------------------------------------------------------


@pytest.fixture
def listed(directory):
    """The same with a manifest, made by the command that the documentation gives."""
    (directory / "assets.extra").mkdir(exist_ok=True)
    subprocess.run(
        f"find . -type f ! -name SHA256SUMS -exec sha256sum {{}} + > {MANIFEST_FILE}",
        cwd=directory,
        shell=True,
        check=True,
    )
    return directory


def test_files_that_the_manifest_lists_are_waited_for(listed):
    assert lacking(listed) is None
    (listed / "variables" / "variables.index").rename(listed / "other")

    assert lacking(listed) == f"variables/variables.index, which {MANIFEST_FILE} lists, is missing"


def test_a_version_that_is_as_listed_is_loaded(listed):
    loader = VerifiedLoader(SimpleNamespace(load=lambda: "loaded"), listed)

    assert loader.load() == "loaded"


def test_without_a_manifest_nothing_is_compared(directory):
    verify(directory)


def test_a_file_that_differs_from_the_manifest_is_never_loaded(listed):
    """The same length, so that nothing but the digest can tell."""
    data = listed / "variables" / "variables.data-00000-of-00001"
    data.write_bytes(data.read_bytes()[::-1])
    loader = VerifiedLoader(SimpleNamespace(load=lambda: pytest.fail("loaded")), listed)

    with pytest.raises(
        DataLoss, match=r"variables\.data-00000-of-00001: differs from what .*SHA256SUMS lists: expected"
    ):
        loader.load()
    data.unlink()
    with pytest.raises(DataLoss, match="No such file"):
        loader.load()


def test_a_load_that_fails_says_what_the_directory_seems_to_be(tmp_path):
    (tmp_path / "model.keras").write_bytes(b"")

    def load():
        raise Unknown("no saved_model.pb")

    with pytest.raises(Unknown, match=r"^no saved_model\.pb\. .* holds no saved_model\.pb: it holds a Keras file"):
        VerifiedLoader(SimpleNamespace(load=load), tmp_path).load()


# --- settling --------------------------------------------------------------------------------------


def test_what_has_not_changed_for_long_is_known_from_its_times():
    arrival = Arrival()
    arrival.look({"a": FileState(1, 100.0)}, now=5.0)

    assert arrival.quiet_s(now=5.0, wall=107.0) == 7.0


def test_with_a_clock_that_is_ahead_what_was_seen_counts():
    arrival = Arrival()
    arrival.look({"a": FileState(1, 200.0)}, now=5.0)
    arrival.look({"a": FileState(1, 200.0)}, now=8.0)

    assert arrival.quiet_s(now=8.0, wall=107.0) == 3.0
    assert not arrival.was_restless
    arrival.look({"a": FileState(2, 201.0)}, now=9.0)
    assert arrival.quiet_s(now=9.0, wall=107.0) == 0.0
    assert arrival.was_restless


def test_nothing_there_has_not_been_quiet_for_ever():
    arrival = Arrival()
    arrival.look({}, now=5.0)

    assert arrival.quiet_s(now=6.0, wall=1e9) == 1.0
