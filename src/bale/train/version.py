"""Which bale is this?"""

from importlib.metadata import PackageNotFoundError, version


def bale_version() -> str:
    """Return the version of the installed package, "uninstalled" for sources that are only on the path."""
    try:
        return version("bale")
    except PackageNotFoundError:
        return "uninstalled"
