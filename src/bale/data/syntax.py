"""What tree does the source of a Python function become?"""

import ast
from typing import NamedTuple

from bale.data.tree import Tree, fold

UNKNOWN_KIND = "unknown"

# Fixed by the `ast` module, so that the number of a kind does not depend on the files that were read. It does depend
# on the version of Python: a checkpoint should carry these names.
KINDS: tuple[str, ...] = (
    UNKNOWN_KIND,
    *sorted(name for name, value in vars(ast).items() if isinstance(value, type) and issubclass(value, ast.AST)),
)
"""The kinds of node: 0 is `unknown`, the others are the classes of the `ast` module by alphabet."""

_NUMBERS = {name: number for number, name in enumerate(KINDS)}
_LEAVES = tuple(Tree(number) for number in range(len(KINDS)))  # half of all nodes are leaves, and equal ones are one


class Function(NamedTuple):
    """A function of a module: its `name`, which is the answer, and its `tree`, which does not contain it."""

    name: str
    tree: Tree


def functions_of(source: str | bytes) -> list[Function]:
    """Return the functions of a module that are not dunders, an inner function before the one around it.

    A tree has the kinds of the syntax nodes and nothing else: no name, no constant. So a call of the function
    itself is a Name like any other. Raises whatever `ast.parse` does: SyntaxError, ValueError, RecursionError,
    MemoryError.
    """
    found: list[Function] = []

    def build(node: ast.AST, children: list[Tree]) -> Tree:
        number = _NUMBERS.get(type(node).__name__, 0)
        tree = Tree(number, tuple(children)) if children else _LEAVES[number]
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not _is_dunder(node.name):
            found.append(Function(node.name, tree))
        return tree

    fold(ast.parse(source), _children, build)
    return found


def _children(node: ast.AST) -> list[ast.AST]:
    return list(ast.iter_child_nodes(node))


def _is_dunder(name: str) -> bool:
    return len(name) > 4 and name.startswith("__") and name.endswith("__")
