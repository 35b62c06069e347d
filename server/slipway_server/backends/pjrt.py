"""
XLA on one device, through the runtime that JAX comes with (PJRT): programs compiled, arrays kept there, runs. No TensorFlow.

JAX says which devices there are; what runs a program is its C++ runtime, called as JAX itself calls it. JAX's own way in
(`jax.jit`) traces Python, and there is no Python to trace. The calls are no promise of JAX's: `pyproject.toml` pins the release.
"""

import functools
import logging
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jaxlib import xla_client

from slipway_wire.status import Code, Internal, WireError, error_of
from slipway_wire.tensors import Array

# It tells of every kind of device that is not there.
logging.getLogger("jax").setLevel(logging.WARNING)
# Without it 64-bit arrays become 32-bit ones, and models have signatures that promise them.
jax.config.update("jax_enable_x64", True)
# On a CPU the thread that asks computes: a hand-over costs more than a small model.
jax.config.update("jax_cpu_enable_async_dispatch", False)


class Executable:
    """A program, ready to run on the device that compiled it; from many threads at once."""

    def __init__(self, loaded: Any) -> None:
        self._loaded = loaded

    def run(self, arguments: Sequence[Any]) -> list[Any]:
        """
        Run once.

        Args:
            arguments: Arrays on the device, of the shapes and dtypes that the program was made for: the runtime compares
                no more than their bytes.

        Returns:
            Arrays on the device.

        Raises:
            WireError: With XLA's code and message.
        """
        try:
            results = self._loaded.execute_sharded(arguments)
            return [array for (array,) in results.disassemble_into_single_device_arrays()]
        except jax.errors.JaxRuntimeError as error:
            raise error_from(error) from error


class Device:
    """One device of this process; the first that JAX has: a GPU, where there is one with its plug-in, or else the CPU."""

    def __init__(self) -> None:
        try:
            self._device = jax.local_devices()[0]
        except RuntimeError as error:
            # Such as a GPU that is taken, or a platform in JAX_PLATFORMS that is not there.
            raise Internal(f"JAX finds no device: {first_line(error)}") from error
        self._sharding = jax.sharding.SingleDeviceSharding(self._device)
        self._devices = xla_client.DeviceList((self._device,))
        self._options = xla_client.CompileOptions()

    def __str__(self) -> str:
        """Say what it is, such as `cpu` or `cuda (NVIDIA H100 80GB HBM3)`."""
        kind = self._device.device_kind
        return self.platform if kind == self.platform else f"{self.platform} ({kind})"

    @property
    def platform(self) -> str:
        """The kind of device, in XLA's words: `cpu`, `cuda`."""
        return str(self._device.client.platform)

    def put(self, array: Array) -> Any:
        """
        Bring *array* to the device. On a CPU its own memory is used where it lies well: leave it alone until the run is over.

        Raises:
            WireError: The device's memory is full.
        """
        try:
            aval = jax.core.ShapedArray(array.shape, array.dtype)
            return xla_client.batched_device_put(aval, self._sharding, [array], [self._device])
        except jax.errors.JaxRuntimeError as error:
            raise error_from(error) from error

    def compile(self, program: bytes) -> Executable:
        """
        Compile a portable artifact.

        Raises:
            WireError: It is damaged, or XLA refuses it.
        """
        try:
            return Executable(self._device.client.compile_and_load(program, self._devices, self._options))
        except (jax.errors.JaxRuntimeError, ValueError) as error:
            raise error_from(error) from error

    def live(self) -> tuple[int, int]:
        """Count the programs that are loaded now and the arrays that the device holds, of all versions."""
        client = self._device.client
        return len(client.live_executables()), len(client.live_arrays())


@functools.cache
def device() -> Device:
    """Give the device of this process; all versions share it."""
    return Device()


def as_array(value: Any) -> Array:
    """Bring an array back from the device; on a CPU it is a view, and can only be read."""
    return np.asarray(value)


def error_from(error: Exception) -> WireError:
    """Make ours of an error of XLA's, which begins with its code's name."""
    name, colon, text = str(error).partition(": ")
    if colon and name in Code.__members__:
        return error_of(Code[name], f"XLA: {first_line(text)}")
    return Internal(f"XLA: {first_line(error)}")


def first_line(text: object) -> str:
    """Give the first line of what XLA says; more of it is about its own insides."""
    return (str(text).strip().splitlines() or ["no reason given"])[0]
