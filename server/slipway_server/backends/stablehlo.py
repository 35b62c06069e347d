"""
StableHLO: the programs of a version directory, compiled when it is loaded, and run without TensorFlow.

A program is for one number of rows. What has fewer rows is filled up, as the batcher does it; what has more is run in
parts; both only where the version says that rows do not depend on each other.
"""

import hashlib
import logging
import math
import mmap
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from slipway_server.backends import pjrt
from slipway_server.config_files import BatchingPolicy
from slipway_server.metrics import Metrics
from slipway_server.servables.loader import Call, Tensors
from slipway_wire import dtypes, messages, signatures, stablehlo
from slipway_wire.signatures import TensorSpec
from slipway_wire.stablehlo import Lowered, Manifest
from slipway_wire.status import DataLoss, FailedPrecondition, InvalidArgument, NotFound, WireError
from slipway_wire.tensors import Array

logger = logging.getLogger(__name__)


class StableHloServable:
    """The programs of one version on a device, with the weights that they share."""

    def __init__(self, manifest: Manifest, programs: Mapping[str, "_Programs"]) -> None:
        """
        Take over what was compiled.

        Args:
            manifest: Says what the signatures are.
            programs: Signature name -> its programs.
        """
        self.batching_policy: BatchingPolicy | None = None
        self.signatures = {name: lowered.signature for name, lowered in manifest.signatures.items()}
        self.signature_defs = _signature_defs(manifest)
        self._programs = dict(programs)

    def run(self, call: Call) -> dict[str, Array]:
        """
        Run one signature. Shapes and dtypes are judged here: XLA's runtime compares bytes alone.

        Raises:
            WireError: The inputs do not fit, or with XLA's code and message.
        """
        return self._programs[call.signature].run(call.inputs, call.outputs)

    def run_together(self, calls: Sequence[Call]) -> list[dict[str, Array]]:
        """Run several signatures one after the other: each is a program of its own."""
        return [self.run(call) for call in calls]

    def close(self) -> None:
        """Free programs and weights."""
        self._programs.clear()


class StableHloLoader:
    """Loads the StableHLO form of one version directory."""

    def __init__(self, directory: Path, metrics: Metrics | None = None) -> None:
        """
        Take note of what is to be loaded.

        Args:
            directory: Holds `stablehlo/manifest.json`.
            metrics: Where attempts are counted.
        """
        self._directory = directory
        self._metrics = metrics

    def load(self) -> StableHloServable:
        """
        Bring the weights to the device and compile every program.

        Raises:
            WireError: What is missing, damaged or refused, with the canonical code, in one line that names the file.
        """
        began = time.monotonic()
        try:
            servable, told = self._load()
        except BaseException:
            self._count("fail")
            raise
        took_s = time.monotonic() - began
        self._count("success")
        if self._metrics:
            self._metrics.saved_model_load_latency_us.of(str(self._directory)).add(int(took_s * 1e6))
        logger.info("%s: %s in %.1f s", self._directory / stablehlo.DIRECTORY, told, took_s)
        return servable

    def _load(self) -> tuple[StableHloServable, str]:
        device = pjrt.device()
        place = self._directory / stablehlo.DIRECTORY
        try:
            manifest = stablehlo.decode(_read(self._directory / stablehlo.MANIFEST_FILE))
            weights = [device.put(array) for array in _weights(place / stablehlo.WEIGHTS_FILE, manifest)]
        except DataLoss as error:
            raise DataLoss(f"{self._directory}: {error.message}") from error
        programs = {}
        for name, lowered in manifest.signatures.items():
            compiled = []
            for program in lowered.programs:
                content = _read(place / program.file)
                if (digest := hashlib.sha256(content).hexdigest()) != program.sha256:
                    raise DataLoss(
                        f"{place / program.file}: differs from what {stablehlo.MANIFEST_FILE} lists: expected sha256 "
                        f"{program.sha256}, found {digest}. Copy the version again"
                    )
                try:
                    executable = device.compile(content)
                except WireError as error:
                    raise type(error)(f"{place / program.file}: {error.message}") from error
                compiled.append((program.rows, executable, [weights[index] for index in program.weights]))
            programs[name] = _Programs(lowered, device, compiled)
        count = sum(len(lowered.programs) for lowered in manifest.signatures.values())
        told = (
            f"{count} programs of {len(programs)} signatures compiled for {device}, {_megabytes(manifest)} of weights"
        )
        return StableHloServable(manifest, programs), told

    def _count(self, status: str) -> None:
        if self._metrics:
            self._metrics.saved_model_load_attempts.of(str(self._directory), status).add()


class _Programs:
    """One signature, compiled for some numbers of rows."""

    def __init__(
        self, lowered: Lowered, device: pjrt.Device, compiled: Sequence[tuple[int | None, pjrt.Executable, list[Any]]]
    ) -> None:
        """
        Put together what runs.

        Args:
            lowered: What the signature is.
            device: Where it runs.
            compiled: Rows, program, and the weights on the device that follow its inputs.
        """
        self._name = lowered.signature.name
        self._device = device
        self._inputs = lowered.signature.inputs
        self._outputs = list(lowered.signature.outputs)
        self._rows_are_apart = lowered.rows_are_apart
        self._by_rows = {rows: (executable, weights) for rows, executable, weights in compiled}
        self._sizes = [rows for rows, _, _ in compiled if rows is not None]
        self._with_rows = [alias for alias, spec in self._inputs.items() if self._sizes and _has_rows(spec)]
        self._outputs_without_rows = [
            alias for alias, spec in lowered.signature.outputs.items() if self._sizes and not _has_rows(spec)
        ]

    def run(self, inputs: Tensors, wanted: Sequence[str]) -> dict[str, Array]:
        rows = self._rows_of(inputs)
        if rows in self._by_rows:
            return self._run(rows, inputs, wanted)
        assert rows is not None
        if not self._rows_are_apart:
            raise InvalidArgument(
                f"signature {self._name} was compiled for {_listed(self._sizes)} rows, and its rows depend on each other, so "
                f"that none may be added: {rows} were sent"
            )
        most = self._sizes[-1]
        if rows <= most:
            return self._run_filled(rows, inputs, wanted)
        if odd := [alias for alias in wanted if alias in self._outputs_without_rows]:
            raise InvalidArgument(
                f"signature {self._name} was compiled for {most} rows at most, and its output {odd[0]} has none of its own, so "
                f"that {rows} cannot be run in parts; send fewer"
            )
        parts = []
        for start in range(0, rows, most):
            part = {
                alias: array[start : start + most] if alias in self._with_rows else array
                for alias, array in inputs.items()
            }
            count = min(most, rows - start)
            parts.append(
                self._run(count, part, wanted) if count in self._by_rows else self._run_filled(count, part, wanted)
            )
        return {alias: np.concatenate([part[alias] for part in parts]) for alias in wanted}

    def _run_filled(self, rows: int, inputs: Tensors, wanted: Sequence[str]) -> dict[str, Array]:
        """Add rows up to the next size that there is a program for, and take them off again."""
        size = next(size for size in self._sizes if size >= rows)
        filled = {alias: _filled(array, size) if alias in self._with_rows else array for alias, array in inputs.items()}
        found = self._run(size, filled, wanted)
        return {alias: array if alias in self._outputs_without_rows else array[:rows] for alias, array in found.items()}

    def _run(self, rows: int | None, inputs: Tensors, wanted: Sequence[str]) -> dict[str, Array]:
        executable, weights = self._by_rows[rows]
        put = self._device.put
        found = executable.run([*[put(inputs[alias]) for alias in self._inputs], *weights])
        by_alias = dict(zip(self._outputs, found, strict=True))
        return {alias: pjrt.as_array(by_alias[alias]) for alias in wanted}

    def _rows_of(self, inputs: Tensors) -> int | None:
        """
        Say how many rows *inputs* have; None if the signature knows none.

        Raises:
            InvalidArgument: A dtype or a shape is another than the program's, or inputs disagree.
        """
        rows: int | None = None
        for alias, spec in self._inputs.items():
            array = inputs[alias]
            if array.dtype != spec.dtype.numpy:
                raise InvalidArgument(
                    f"Type mismatch: actual {dtypes.from_numpy(array.dtype).name} vs. expect {spec.dtype.name} "
                    f"for input {alias}"
                )
            shape = array.shape
            assert spec.shape is not None
            if len(shape) != len(spec.shape) or any(
                size is not None and size != found for size, found in zip(spec.shape, shape, strict=True)
            ):
                raise InvalidArgument(
                    f"input {alias}: expected shape {signatures.format_shape(spec.shape)}, got {list(shape)}"
                )
            if self._sizes and _has_rows(spec):
                if rows is not None and shape[0] != rows:
                    raise InvalidArgument(
                        f"inputs have different numbers of rows: {alias} has {shape[0]}, others have {rows}"
                    )
                rows = shape[0]
        return rows


def has_stablehlo(directory: Path) -> bool:
    """Say whether a version directory has the form that this backend runs."""
    return (directory / stablehlo.MANIFEST_FILE).exists()


def no_stablehlo(directory: Path) -> WireError:
    """Make the error for a version that has no such form, where nothing else could serve it."""
    return FailedPrecondition(
        f"{directory}: no {stablehlo.MANIFEST_FILE}, and TensorFlow, which serves a SavedModel, is not installed here; "
        "export it with server.backend: stablehlo, or serve it where TensorFlow is"
    )


def _has_rows(spec: TensorSpec) -> bool:
    return bool(spec.shape) and spec.shape[0] is None  # type: ignore[index]  # an empty or unknown shape has said no


def _filled(array: Array, rows: int) -> Array:
    """
    Add rows: the first one again, which the model is known to take.

    Source: batching_session.cc (MergeInputTensors) fills up batches so; zeros for what has not even one row.
    """
    made = np.empty((rows, *array.shape[1:]), array.dtype)
    made[: len(array)] = array
    made[len(array) :] = array[0] if len(array) else 0
    return made


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise NotFound(
            f"{path}: {error.strerror}; {stablehlo.MANIFEST_FILE} needs it. Copy the version again"
        ) from error


def _weights(path: Path, manifest: Manifest) -> list[Array]:
    """
    Read every weight, into memory that a CPU's device takes as it is.

    Not mapped from the file: who writes into a file that is being served would change answers, or end the server.
    """
    need = max([weight.offset + weight.nbytes for weight in manifest.weights], default=0)
    if not need:
        return [np.empty(weight.shape, weight.dtype.numpy) for weight in manifest.weights]
    memory = mmap.mmap(-1, need)  # it begins with a page, and so at a multiple of any alignment
    try:
        with path.open("rb") as file:
            found = file.readinto(memory)
            rest = len(file.read(1))
    except OSError as error:
        raise NotFound(
            f"{path}: {error.strerror}; {stablehlo.MANIFEST_FILE} needs it. Copy the version again"
        ) from error
    if found != need or rest:
        raise DataLoss(
            f"{path}: expected {need} bytes, found {found if found < need else 'more'}. Copy the version again"
        )
    return [
        np.frombuffer(memory, weight.dtype.numpy, math.prod(weight.shape), weight.offset).reshape(weight.shape)
        for weight in manifest.weights
    ]


def _signature_defs(manifest: Manifest) -> Any:
    made = messages.SignatureDefMap().signature_def
    for name, lowered in manifest.signatures.items():
        definition = made[name]
        definition.method_name = lowered.signature.method
        for specs, field in (
            (lowered.signature.inputs, definition.inputs),
            (lowered.signature.outputs, definition.outputs),
        ):
            for alias, spec in specs.items():
                info = field[alias]
                info.name, info.dtype = spec.graph_name, spec.dtype.number
                info.tensor_shape.SetInParent()
                for size in spec.shape or ():
                    info.tensor_shape.dim.add(size=-1 if size is None else size)
    return made


def _megabytes(manifest: Manifest) -> str:
    return f"{sum(weight.nbytes for weight in manifest.weights) / 1e6:.1f} MB"


def _listed(sizes: Sequence[int]) -> str:
    return ", ".join(map(str, sizes))
