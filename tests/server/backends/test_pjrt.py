import jax
import numpy as np
import pytest

from slipway_server.backends import pjrt
from slipway_wire.status import Code, Internal, ResourceExhausted, WireError


def test_the_device_is_shared_and_says_what_it_is():
    device = pjrt.device()

    assert device is pjrt.device()
    assert device.platform == jax.devices()[0].client.platform
    assert str(device).startswith(device.platform)


def test_arrays_of_64_bits_stay_what_they_are():
    array = np.array([2**62 + 1, -1])

    back = pjrt.as_array(pjrt.device().put(array))

    assert back.dtype == np.int64
    assert back.tolist() == array.tolist()
    assert not back.flags.writeable


def test_a_program_runs_on_the_device():
    text = b"func.func @main(%x: tensor<2xf32>) -> tensor<2xf32> { %y = stablehlo.add %x, %x : tensor<2xf32> return %y : tensor<2xf32> }"

    executable = pjrt.device().compile(text)

    (found,) = executable.run([pjrt.device().put(np.float32([1, 2]))])
    assert pjrt.as_array(found).tolist() == [2, 4]


def test_a_device_that_is_not_there_is_told(monkeypatch):
    def none():
        raise RuntimeError("Unknown backend: 'cuda' requested\nmore")

    monkeypatch.setattr(jax, "local_devices", none)

    with pytest.raises(Internal, match=r"^JAX finds no device: Unknown backend: 'cuda' requested$"):
        pjrt.Device()


@pytest.mark.parametrize(
    ("said", "kind", "message"),
    [
        ("RESOURCE_EXHAUSTED: Out of memory: 9 GiB\nmore", ResourceExhausted, "XLA: Out of memory: 9 GiB"),
        ("something else: INVALID", Internal, "XLA: something else: INVALID"),
        ("", Internal, "XLA: no reason given"),
    ],
)
def test_the_code_is_xlas_own(said, kind, message):
    error = pjrt.error_from(RuntimeError(said))

    assert type(error) is kind
    assert error.message == message


def test_what_xla_cannot_read_is_told_with_a_code():
    with pytest.raises(WireError, match=r"^XLA: \S") as refused:
        pjrt.device().compile(b"nothing")

    assert refused.value.code in (Code.INVALID_ARGUMENT, Code.INTERNAL, Code.UNKNOWN)
