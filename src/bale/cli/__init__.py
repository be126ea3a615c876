"""The command line: every command is one call of the library."""

from bale.cli import chip as _chip  # noqa: F401  importing a command adds it to the app
from bale.cli import codesign as _codesign  # noqa: F401
from bale.cli import compress as _compress  # noqa: F401
from bale.cli import noc as _noc  # noqa: F401
from bale.cli import policy as _policy  # noqa: F401
from bale.cli import simulate as _simulate  # noqa: F401
from bale.cli import train as _train  # noqa: F401
from bale.cli import tune as _tune  # noqa: F401
from bale.cli import watch as _watch  # noqa: F401
from bale.cli.app import app

__all__ = ["app"]
