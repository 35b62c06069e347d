import importlib.util
import subprocess
import sys

from slipway.oci import bytecode_worker


def test_a_pyc_file_is_hash_based_and_runs(tmp_path):
    """An unchecked hash (PEP 552): neither a time nor a stat at run time."""
    content = bytecode_worker.compiled("/m.py", b"answer = 6 * 7\n")
    path = tmp_path / "m.pyc"
    path.write_bytes(content)

    spec = importlib.util.spec_from_file_location("m", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.answer == 42
    assert content[4:8] == b"\1\0\0\0"


def test_what_does_not_compile_gives_nothing():
    assert bytecode_worker.compiled("/m.py", b"def (:\n") == b""
    assert bytecode_worker.compiled("/m.py", b"a = '\0'\n") == b""


def test_it_ends_with_its_input():
    done = subprocess.run([sys.executable, bytecode_worker.__file__], input=b"", capture_output=True, check=True)

    assert done.stdout == b""
