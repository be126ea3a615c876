"""How is a package of the extra `video` imported, and what is said where it is missing?"""

import importlib
from types import ModuleType

from bale.errors import VideoError


def imported(name: str) -> ModuleType:
    """Return the module `name`; raises `VideoError` that says what to install where it cannot be imported."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise VideoError(f"{name} cannot be imported ({error}); pip install 'bale[video]' has it") from None
