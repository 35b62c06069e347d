"""What the stages' command lines have in common: sections of the settings as JSON, and `V=path` for each version."""

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from slipway.errors import SettingsError
from slipway.settings import fault_lines

Section = TypeVar("Section", bound=BaseModel)


def section(model: type[Section], text: str, name: str) -> Section:
    """
    Read one section of the settings.

    Args:
        model: Which, such as settings.ImageSettings.
        text: JSON, as the rules give it.
        name: What errors call it.

    Raises:
        SettingsError: With one line per fault.
    """
    try:
        return model.model_validate_json(text)
    except ValidationError as error:
        raise SettingsError("\n".join(fault_lines(error, name))) from error


def by_version(words: Sequence[str]) -> dict[int, Path]:
    """Read `V=path` words as version -> path, lowest version first, or raise SettingsError."""
    found: dict[int, Path] = {}
    for word in words:
        version, equals, path = word.partition("=")
        if not (equals and path and version.isdigit()):
            raise SettingsError(f"expected VERSION=PATH such as 1=results/a, got {word!r}")
        if int(version) in found:
            raise SettingsError(f"version {version} is given twice: {found[int(version)]} and {path}")
        found[int(version)] = Path(path)
    return dict(sorted(found.items()))
