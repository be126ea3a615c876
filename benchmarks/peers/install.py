"""Where do the peers come from? One environment for each, under .peers/, outside bale's dependencies.

    python -m benchmarks.peers.install [PEER ...]

Peers that are there already are left alone. torch is that of the environment which runs this: a line in the peer's
site-packages points there, so that it is not installed again for each peer. Exit code 1 where a peer failed.
"""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parents[2] / ".peers"


@dataclass(frozen=True)
class Recipe:
    """requirements  what is installed, with its dependencies' versions; constraints.txt of bale has the others
    check         Python that runs only where the peer works
    """

    requirements: tuple[str, ...]
    check: str


RECIPES = {
    # The last release of DyNet with a wheel for Python 3.11; its package is named dynet and says 2.1.
    "dynet": Recipe(("dyNET38==2.2", "cython==3.3.1"), "import dynet; dynet.scalarInput(1.0).value()"),
    # Later DGLs are tied to the ABI of certain versions of torch; this one asks torch for nothing but Python.
    "dgl": Recipe(
        ("dgl==1.1.3", "scipy==1.17.1", "requests==2.34.2", "tqdm==4.70.1", "psutil==7.2.2"),
        "import dgl; dgl.batch([dgl.graph(([0], [1]))] * 2)",
    ),
    # Works with a shim only (benchmarks/train_step/torchfold_model.py): it names a class that torch has removed.
    "torchfold": Recipe(("torchfold==0.1.0",), "import torchfold; torchfold.Fold()"),
}


class InstallError(Exception):
    """What a command said before it failed."""


def main() -> int:
    wanted = sys.argv[1:] or list(RECIPES)
    unknown = [peer for peer in wanted if peer not in RECIPES]
    if unknown:
        print(f"unknown: {', '.join(unknown)}; the peers are {', '.join(RECIPES)}", file=sys.stderr)
        return 2
    failed = [peer for peer in wanted if not install(peer)]
    if failed:
        print(f"not installed: {', '.join(failed)}. The benchmarks run without them", file=sys.stderr)
    return 1 if failed else 0


def install(peer: str) -> bool:
    """Build the environment of `peer`, unless it is there; say what is done, and whether it worked."""
    recipe, folder = RECIPES[peer], FOLDER / peer
    stamp, wanted = folder / ".installed", _stamp(recipe)
    if stamp.exists() and stamp.read_text() == wanted:
        print(f"{peer}: {' '.join(recipe.requirements)} is in {folder}")
        return True
    print(f"{peer}: installing {' '.join(recipe.requirements)} into {folder}", flush=True)
    try:
        _build(recipe, folder)
        _run([str(folder / "bin" / "python"), "-c", recipe.check])
    except (InstallError, OSError) as error:
        print(f"{peer}: failed: {error}", file=sys.stderr)
        return False
    stamp.write_text(wanted)
    print(f"{peer}: installed")
    return True


def _build(recipe: Recipe, folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    _share_packages(folder)
    pip = [str(python), "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    _run([*pip, "--constraint", str(FOLDER.parent / "constraints.txt"), *recipe.requirements])


def _share_packages(folder: Path) -> None:
    """Let the environment find torch and numpy where this one has them, after its own packages."""
    (own,) = folder.glob("lib/python3*/site-packages")
    (own / "bale_environment.pth").write_text(sysconfig.get_path("purelib") + "\n")


def _stamp(recipe: Recipe) -> str:
    """What an environment was built from: where one of these has changed, it is built anew."""
    shared = [f"{name}=={importlib.metadata.version(name)}" for name in ("torch", "numpy")]
    return "\n".join([*recipe.requirements, *shared, sys.version, sysconfig.get_path("purelib")]) + "\n"


def _run(command: list[str]) -> None:
    # DGL would otherwise write its choice of a backend into the home folder
    environment = {**os.environ, "DGLBACKEND": "pytorch"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise InstallError(f"{' '.join(command[:4])} ... ended with {done.returncode}:\n{done.stderr.strip()[-2000:]}")


if __name__ == "__main__":
    sys.exit(main())
