import io

import pytest

from slipway.errors import BuildError
from slipway.oci import archive, wheels
from slipway.oci.wheels import Requirement, is_left_out, matching, pip_complaint, read_lock, wheel_entries

HASH = "0" * 64
LOCK = f"""\
numpy==2.4.6 ; python_full_version < '3.12' \\
    --hash=sha256:{HASH} \\
    --hash=sha256:{"1" * 64}
typing_extensions==4.16.0 \\
    --hash=sha256:{HASH}
"""


def contents(entries):
    sink = io.BytesIO()
    entries = list(entries)
    archive.write_archive(entries, sink)
    return {entry.path: entry for entry in entries}


def test_a_lock_gives_names_versions_and_all_hashes():
    assert read_lock(LOCK) == [
        Requirement("numpy", "2.4.6", frozenset({HASH, "1" * 64})),
        Requirement("typing-extensions", "4.16.0", frozenset({HASH})),
    ]


def test_the_lock_without_tensorflow_has_jax_and_what_the_server_imports_beside_it():
    text = wheels.STABLEHLO_LOCK.read_text()
    names = {requirement.name for requirement in read_lock(text)}

    assert "://" not in text
    assert all(requirement.hashes for requirement in read_lock(text))
    assert {"jax", "jaxlib", "ml-dtypes", "numpy", "protobuf", "grpcio", "uvloop"} <= names
    assert not {"tensorflow-cpu", "tensorflow", "keras", "scipy"} & names
    # One process may run both: what both locks have is the same.
    common = {r.name: r for r in read_lock(wheels.LOCK.read_text())}
    assert all(common.get(r.name, r).version == r.version for r in read_lock(text))


def test_the_real_lock_names_no_index_and_has_tensorflow():
    text = wheels.LOCK.read_text()

    assert "://" not in text
    assert all(requirement.hashes for requirement in read_lock(text))
    assert "tensorflow-cpu" in {requirement.name for requirement in read_lock(text)}


def test_wheels_are_found_by_normalised_name_and_version(tmp_path):
    paths = [tmp_path / name for name in ("google_pasta-0.2.0-py3-none-any.whl", "google_pasta-0.2-py3-none-any.whl")]

    assert matching(Requirement("google-pasta", "0.2.0", frozenset()), paths) == paths[:1]


def test_a_slim_image_goes_without_what_no_server_loads():
    gone = [
        "tensorflow/include/a/b.h",
        "numpy/linalg/tests/test_linalg.py",
        "libclang.so",
        "a/b.pyi",
        "wheel/__init__.py",
    ]
    kept = [
        "tensorflow/python/tests/x.py",
        "numpy/testing/__init__.py",
        "absl/testing/flagsaver.py",
        "latest/x.py",
        "contest.py",
    ]

    assert [path for path in gone if not is_left_out(path)] == []
    assert [path for path in kept if is_left_out(path)] == []


def test_files_lie_in_site_packages_with_bytecode_and_without_scripts(make_wheel, compiler):
    wheel = make_wheel(
        "thing",
        "1.0",
        {
            "thing/__init__.py": b"x = 1\n",
            "thing/broken.py": b"def (:\n",
            "thing-1.0.data/purelib/more.py": b"",
            "thing-1.0.data/scripts/thing": b"#!python",
            "thing/test/test_x.py": b"",
        },
    )

    sink = io.BytesIO()
    entries = list(wheel_entries(wheel, slim=True, compiler=compiler))
    archive.write_archive(entries, sink)

    paths = {entry.path.removeprefix(f"{wheels.SITE_PACKAGES}/") for entry in entries}
    assert {"thing/__init__.py", "thing/__pycache__/__init__.cpython-311.pyc", "more.py"} <= paths
    assert not {path for path in paths if "scripts" in path or "test" in path}
    assert b"broken.py" in sink.getvalue()
    assert b"broken.cpython-311.pyc" not in sink.getvalue()


@pytest.mark.parametrize("name", ["thing/__init__.py", "thing/data.bin"])
def test_a_wheel_that_departs_from_its_record_is_refused(make_wheel, compiler, name):
    wheel = make_wheel("thing", "1.0", {name: b"changed"}, recorded={name: b"as recorded"})

    with pytest.raises(BuildError, match=rf"thing-1\.0.*{name} departs from the wheel's own RECORD"):
        archive.write_archive(wheel_entries(wheel, slim=False, compiler=compiler), io.BytesIO())


def test_a_wheel_cannot_write_outside_site_packages(make_wheel, compiler):
    wheel = make_wheel("thing", "1.0", {"../../../../etc/passwd": b"root::0:0"})

    with pytest.raises(ValueError, match="not a path inside an image"):
        list(wheel_entries(wheel, slim=False, compiler=compiler))


def test_a_damaged_wheel_in_the_cache_is_not_used(make_wheel, tmp_path):
    wheel = make_wheel("thing", "1.0", {"thing.py": b""})
    requirement = Requirement("thing", "1.0", frozenset({wheel.sha256}))
    assert wheels.fetch([requirement], tmp_path, print) == [wheel]

    wheel.path.write_bytes(wheel.path.read_bytes()[:-1])

    assert wheels._cached(requirement, tmp_path) is None
    assert not wheel.path.exists()


def test_a_wheel_that_no_index_has_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    requirement = Requirement("slipway-no-such-thing", "1.0", frozenset({HASH}))

    with pytest.raises(BuildError, match="slipway-no-such-thing") as caught:
        wheels.fetch([requirement], tmp_path / "cache", print)

    assert len(str(caught.value).splitlines()) == 1
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.parametrize(
    ("output", "said"),
    [
        ("WARNING: Retrying ... NewConnectionError(...)\nERROR: No matching distribution", "cannot be reached"),
        ("ERROR: Could not install: [Errno 28] No space left on device", "No space left"),
        ("ERROR: No matching distribution found for x==1\n", "No matching distribution found for x==1"),
        ("", "no reason given"),
    ],
)
def test_pip_is_quoted_in_one_line(output, said):
    assert said in pip_complaint(output)
    assert "\n" not in pip_complaint(output)
