"""Functions of the user's that build a model."""

import importlib
import sys
import traceback
from pathlib import Path
from typing import Any

from slipway.errors import SourceError, one_line


def build(builder: str) -> Any:
    """
    Call `module:function`, found from the working directory.

    Raises:
        SourceError: If there is none, or it fails; the line names the line of the user's file.
    """
    module, function = builder.split(":")
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)
    try:
        return getattr(importlib.import_module(module), function)()
    except Exception as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        at = f" ({Path(frame.filename).name}, line {frame.lineno})" if frame.filename.startswith(here) else ""
        msg = f"builder {builder}: {one_line(error)}{at}. It is imported from the working directory, {here}."
        raise SourceError(msg) from error
