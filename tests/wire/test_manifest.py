import subprocess

from hypothesis import given
from hypothesis import strategies as st

from slipway_wire.manifest import decode, encode

names = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1).filter(
    lambda name: not name.startswith("./")
)
digests = st.text("0123456789abcdef", min_size=64, max_size=64)


@given(st.dictionaries(names, digests))
def test_what_is_written_is_read(entries):
    assert decode(encode(entries)) == entries


@given(st.binary())
def test_anything_can_be_read(data):
    decode(data)


def test_sha256sum_writes_and_checks_it(tmp_path):
    (tmp_path / "a b").write_bytes(b"content")
    written = subprocess.run(["sha256sum", "./a b"], cwd=tmp_path, capture_output=True, check=True).stdout

    entries = decode(written)

    assert list(entries) == ["a b"]
    (tmp_path / "SHA256SUMS").write_bytes(encode(entries))
    subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=tmp_path, capture_output=True, check=True)
