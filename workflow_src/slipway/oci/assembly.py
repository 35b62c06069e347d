"""
The six layers of a model's image, in the order of how rarely they change: what is in each, and what it depends on.

base, framework, packages and server are kept in the cache; model and config are quicker made than kept.
"""

import contextlib
import importlib.util
import tarfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Self

from slipway import files
from slipway.errors import SettingsError
from slipway.oci import archive, base, layout, serving_config, wheels
from slipway.oci.archive import Entry
from slipway.oci.bytecode import Compiler, compiler_of
from slipway.oci.layers import LayerStore
from slipway.records import LayerRecord
from slipway.serving_settings import ServingSettings
from slipway.settings import ImageSettings, ServerSettings

ENTRYPOINT = "usr/bin/tf_serving_entrypoint.sh"
# TF Serving's names for the two programs; users override `--entrypoint` with either.
_SCRIPTS = {
    ENTRYPOINT: b"#!/usr/bin/python3.11 -I\nfrom slipway_server.entrypoint import main\n\nmain()\n",
    "usr/bin/tensorflow_model_server": (
        b"#!/usr/bin/python3.11 -I\nimport sys\n\nfrom slipway_server.__main__ import main\n\nsys.exit(main())\n"
    ),
}
# Backend -> what the names of its wheels begin with.
_FRAMEWORKS = {"saved_model": "tensorflow", "stablehlo": "jax"}
_SERVER_PACKAGES = ("slipway_server", "slipway_wire")


class Assembly:
    """
    Makes layers, in the order of its methods. Use it as a context manager.

    The base's interpreter, which compiles for the other layers, is unpacked only if one of them has to be made.
    """

    def __init__(
        self,
        place: Path,
        cache: Path,
        settings: ImageSettings,
        say: Callable[[str], None],
        backend: str = "saved_model",
    ) -> None:
        """
        Say where everything is.

        Args:
            place: OCI layout that gets the blobs.
            cache: Directory for wheels and layers.
            settings: What the base is made from, compression, and so on.
            say: Told of progress.
            backend: What runs models: saved_model (TensorFlow) or stablehlo (JAX's runtime).

        Raises:
            SettingsError: If `image.base` names no file.
            BuildError: If the Debian release has no lock.
        """
        if settings.base and not settings.base.is_file():
            raise SettingsError(f"image.base: {settings.base}: no such file")
        self._place, self._cache, self._settings, self._say = place, cache, settings, say
        self._store = LayerStore(place, cache / "layers", settings.compression, say)
        self._cleanup = contextlib.ExitStack()
        self._compiler: Compiler | None = None
        self._base: LayerRecord | None = None
        self._framework = _FRAMEWORKS[backend]
        lock = wheels.STABLEHLO_LOCK if backend == "stablehlo" else wheels.LOCK
        self.requirements = wheels.read_lock(lock.read_text(encoding="utf-8"))
        self._debs = () if settings.base else tuple(base.read_lock(base.lock_path(settings.suite)))
        self._drifted = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._cleanup.close()

    @property
    def base_description(self) -> str:
        """Say in a few words what the base is."""
        if self._settings.base:
            return self._settings.base.name
        drift = f", {self._drifted} of them not as locked" if self._drifted else ""
        return f"Debian {self._settings.suite}, {len(self._debs)} packages{drift}"

    def base(self) -> LayerRecord:
        """
        Make the layer of Debian packages (or of `image.base`).

        A security update takes the locked version off the mirror. Unless `image.strict` is set, the image is then
        made from what the mirror has now, and says so.
        """
        try:
            self._base = self._base_layer()
        except base.StaleLockError as error:
            if self._settings.strict:
                raise
            locked, self._debs = set(self._debs), tuple(base.newest(self._settings.suite))
            self._drifted = len(set(self._debs) - locked)
            self._say(f"warning: {error} Going on with {self._drifted} newer packages; image.strict: true refuses.")
            self._base = self._base_layer()
        return self._base

    def _base_layer(self) -> LayerRecord:
        inputs = {"base": self._base_digests(""), "user": self._settings.user}
        return self._layer("base", inputs, self._base_entries)

    def framework(self) -> LayerRecord:
        """Make the layer of the wheels that run models, TensorFlow's own or JAX's: the largest by far."""
        name = self._framework
        return self._wheels(name, [r for r in self.requirements if r.name.startswith(name)])

    def packages(self) -> LayerRecord:
        """Make the layer of all other wheels."""
        return self._wheels("packages", [r for r in self.requirements if not r.name.startswith(self._framework)])

    def server(self) -> LayerRecord:
        """Make the layer of our own code, as it is installed beside this module."""
        contents = {path: source.read_bytes() for path, source in server_sources().items()}
        digests = {path: files.sha256_bytes(content) for path, content in (contents | _SCRIPTS).items()}

        def entries() -> Iterator[Entry]:
            compiler = self._ready_compiler()
            for path, content in contents.items():
                yield archive.file(path, content)
                if path.endswith(".py"):
                    yield wheels.pyc_entry(path, compiler.submit(f"/{path}", content))
            yield from (archive.file(path, script, executable=True) for path, script in _SCRIPTS.items())

        return self._layer("server", {"files": digests, "python": self._base_digests("python3")}, entries)

    def model(self, model: str, versions: Mapping[int, Path]) -> LayerRecord:
        """Make the layer of all versions: version -> directory with its files."""
        entries = [
            archive.file(f"models/{model}/{version}/{name}", path)
            for version, directory in versions.items()
            for name, path in files.tree_files(directory).items()
        ]
        return self._layer("model", None, lambda: entries)

    def config(self, model: str, server: ServerSettings, serving: ServingSettings | None = None) -> LayerRecord:
        """Make the layer of the server's configuration, which says what is served of the model's versions."""
        entries = [
            archive.file(f"{serving_config.DIRECTORY}/{name}".lstrip("/"), content)
            for name, content in serving_config.config_files(model, server, serving).items()
        ]
        return self._layer("config", None, lambda: entries)

    def _wheels(self, name: str, requirements: list[wheels.Requirement]) -> LayerRecord:
        slim = self._settings.slim == "safe"

        def entries() -> Iterator[Entry]:
            compiler = self._ready_compiler()
            for wheel in wheels.fetch(requirements, self._cache / "wheels", self._say):
                yield from wheels.wheel_entries(wheel, slim=slim, compiler=compiler)

        locked = [f"{r.name} {r.version} {' '.join(sorted(r.hashes))}" for r in requirements]
        return self._layer(name, {"wheels": locked, "slim": slim, "python": self._base_digests("python3")}, entries)

    def _layer(
        self, name: str, inputs: Mapping[str, object] | None, make: Callable[[], Iterable[Entry]]
    ) -> LayerRecord:
        began = time.perf_counter()
        made = self._store.layer(name, inputs, make)
        took = "cached" if made.cached else f"{time.perf_counter() - began:.1f} s"
        self._say(f"{name:<10} {made.raw_bytes / 1e6:7.1f} MB -> {made.bytes / 1e6:6.1f} MB  {took}")
        return made

    def _base_digests(self, part: str) -> list[str]:
        """Name what the base is made from; of Debian packages only those with *part* in their names."""
        if self._settings.base:
            return [files.sha256_file(self._settings.base)]
        return [f"{p.name} {p.version} {p.sha256}" for p in self._debs if part in p.name]

    def _base_entries(self) -> Iterator[Entry]:
        if self._settings.base:
            tar = self._settings.base
        else:
            tar = self._place / "root.tar"
            self._say(f"making the base from {len(self._debs)} Debian packages")
            base.bootstrap(self._settings.suite, self._debs, tar)
        with tarfile.open(tar) as packed:
            compiler = self._start_compiler(packed)
        yield from base.base_entries(tar, self._settings.user, compiler)
        if tar != self._settings.base:
            tar.unlink()

    def _ready_compiler(self) -> Compiler:
        if self._compiler is not None:
            return self._compiler
        assert self._base is not None
        with layout.open_layer(layout.blob_path(self._place, self._base.digest), self._settings.compression) as packed:
            return self._start_compiler(packed)

    def _start_compiler(self, packed: tarfile.TarFile) -> Compiler:
        root = self._cleanup.enter_context(base.interpreter_root(packed, self._place))
        self._compiler = self._cleanup.enter_context(compiler_of(root))
        return self._compiler


def server_sources() -> dict[str, Path]:
    """List the files of our server: path in the image -> file here. Nothing of it is imported."""
    found = {}
    for package in _SERVER_PACKAGES:
        spec = importlib.util.find_spec(package)
        assert spec is not None
        assert spec.origin is not None
        for name, path in files.tree_files(Path(spec.origin).parent).items():
            if "__pycache__" not in path.parts:
                found[f"{wheels.SITE_PACKAGES}/{package}/{name}"] = path
    return found
