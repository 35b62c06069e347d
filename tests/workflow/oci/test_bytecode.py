import sys

import pytest

from slipway.errors import BuildError
from slipway.oci.bytecode import Compiler, pyc_path

# What made bytes differ between processes: sets of strings (hash seed) and shared strings (interning).
SOURCE = b"""
def f(x, name='alpha'):
    return x in {'alpha', 'beta', 'gamma', 'delta', 'epsilon'} or name == 'alpha'
class C:
    alpha = 'alpha'
"""


def compiled(sources, interpreter=(sys.executable,)):
    with Compiler(list(interpreter)) as compiler:
        futures = [compiler.submit(path, source) for path, source in sources]
        return [future.result() for future in futures]


def test_the_same_source_gives_the_same_bytes_in_every_process():
    first = compiled([("/a.py", SOURCE)])
    after_others = compiled([(f"/{i}.py", b"alpha = 'alpha' + 'beta'\n" * i) for i in range(20)] + [("/a.py", SOURCE)])

    assert first[0] == after_others[-1]
    assert len(first[0]) > 100


def test_answers_go_to_those_who_asked():
    sources = [(f"/m{i}.py", f"value = {i}\n".encode()) for i in range(60)]

    assert [f"m{i}.py".encode() in content for i, content in enumerate(compiled(sources))] == [True] * 60


def test_an_interpreter_that_dies_is_named():
    with pytest.raises(BuildError, match="interpreter"):
        compiled([("/a.py", b"")], interpreter=("/bin/false",))


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("usr/lib/a.py", "usr/lib/__pycache__/a.cpython-311.pyc"),
        ("a.b.py", "__pycache__/a.b.cpython-311.pyc"),
    ],
)
def test_pyc_files_lie_where_python_looks(source, expected):
    assert pyc_path(source) == expected
