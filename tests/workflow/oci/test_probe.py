import subprocess
import tarfile

from slipway.oci import probe
from slipway.oci.layout import blob_path

LDD = """\
\tlinux-vdso.so.1 (0x00007fe2449e1000)
\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007fe2447e1000)
\t/lib64/ld-linux-x86-64.so.2 (0x00007fe2449e3000)
"""


def test_libraries_and_loader_are_read_from_ldd():
    expected = {"libc.so.6": "/lib/x86_64-linux-gnu/libc.so.6", "loader": "/lib64/ld-linux-x86-64.so.2"}

    assert probe.libraries_of(LDD) == expected
    assert probe.libraries_of("\tnot a dynamic executable\n") == {}


def test_the_program_in_the_image_runs(tmp_path):
    """Unpacked and run here, with the paths of the image replaced."""
    image = probe.write_probe_image(tmp_path / "layout")
    with tarfile.open(blob_path(tmp_path / "layout", image.layers[0].digest)) as packed:
        packed.extractall(tmp_path / "root", filter="fully_trusted")
    root = f"{tmp_path}/root/probe"
    words = [word.replace("/probe", root) for word in (probe.ENTRYPOINT, *probe.probe_arguments("6", "7"))]

    assert subprocess.run(words, capture_output=True, text=True, check=True).stdout == "6 7\n"
