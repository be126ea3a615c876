"""The library's functions are the same at every call, split by file, and do not give their names away."""

import ast
import pickle
import textwrap
from collections import Counter

import pytest

from bale.data import KINDS, functions_of, python_functions, split_of
from bale.errors import DataError


@pytest.fixture(scope="module")
def subset():
    return python_functions(600)


@pytest.fixture
def library(tmp_path):
    """Make a folder of modules from {path: source}."""

    def write(**sources):
        for name, source in sources.items():
            path = tmp_path / (name.replace("__", "/") + ".py")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(source if isinstance(source, bytes) else textwrap.dedent(source).encode())
        return tmp_path

    return write


def nested(tree):
    return (KINDS[tree.kind], [nested(child) for child in tree.children])


def nested_syntax(node):
    return (type(node).__name__, [nested_syntax(child) for child in ast.iter_child_nodes(node)])


def test_the_subset_is_of_the_size_asked_and_looks_like_code(subset):
    samples = subset.train + subset.valid + subset.test
    sizes = sorted(tree.size for tree, _ in samples)
    assert len(samples) == 600
    assert len(subset.train) > len(subset.valid) + len(subset.test) > 0
    assert 20 <= sizes[300] <= 60 and sizes[-1] <= 1000
    assert len(subset.classes) == 51 and subset.classes[-1] == "other"
    assert {label for _, label in subset.train} == set(range(51))
    assert {KINDS[tree.kind] for tree, _ in samples} <= {"FunctionDef", "AsyncFunctionDef"}
    assert 60 <= subset.files < 300 and subset.kinds == KINDS
    assert "train" not in repr(subset)


def test_classes_are_the_commonest_of_the_training_split(subset):
    counts = Counter(label for _, label in subset.train)
    common = [counts[label] for label in range(50)]
    assert common == sorted(common, reverse=True)
    assert {"get", "is"} <= set(subset.classes)


def test_majority_is_the_accuracy_of_one_answer(subset):
    answer = Counter(label for _, label in subset.train).most_common(1)[0][0]
    assert subset.majority("train") == Counter(label for _, label in subset.train)[answer] / len(subset.train)
    assert subset.majority() == Counter(label for _, label in subset.test)[answer] / len(subset.test)


def test_two_readings_agree_and_pickle(subset):
    assert python_functions(600) == subset
    assert pickle.loads(pickle.dumps(subset)) == subset


def test_a_smaller_subset_reads_fewer_files(subset):
    few = python_functions(50)
    assert len(few.train + few.valid + few.test) == 50
    assert few.files < subset.files


def test_trees_are_the_kinds_of_the_syntax(library):
    source = """
        @cache(1)
        def get(a, *b: int, c=2) -> str:
            async def is_inner(): return [x async for x in a if x.y[1:2]]
            return f"{get(a)!r}" if (lambda: b) else None
        """
    functions = {function.name: function.tree for function in functions_of(textwrap.dedent(source))}
    module = ast.parse(textwrap.dedent(source))
    (outer,) = module.body
    assert nested(functions["get"]) == nested_syntax(outer)
    assert nested(functions["is_inner"]) == nested_syntax(outer.body[0])


def test_names_and_constants_leave_no_trace():
    template = """
class C:
    @{name}.setter
    def {name}(self, {arg}={value}):
        "{value}"
        return self.{name}({name})
"""
    trees = {
        functions_of(template.format(name=name, arg=arg, value=value))[0].tree
        for name, arg, value in (("get_it", "a", 1), ("is_that", "b", 22), ("decode", "get_it", 333))
    }
    assert len(trees) == 1


def test_dunders_are_left_out_and_private_names_are_not():
    source = "\n".join(f"def {name}(): pass" for name in ("__init__", "__get", "_is", "set__", "____", "_"))
    assert [function.name for function in functions_of(source)] == ["__get", "_is", "set__", "____", "_"]


def test_an_inner_function_is_a_function_and_a_part_of_the_outer_one():
    inner, outer = functions_of("def outer():\n  def inner(): return 1\n  return inner")
    assert (inner.name, outer.name) == ("inner", "outer")
    assert any(node is inner.tree for node in outer.tree.children)


def test_a_split_holds_whole_files(library):
    # The functions of module n, and of no other, have n + 1 statements in their bodies.
    sources = {
        f"pack{n % 3}__module{n}": "".join(f"def f{k}():{' pass;' * (n + 1)}\n" for k in range(12)) for n in range(60)
    }
    data = python_functions(library=library(**sources))
    module_of = {"train": set(), "valid": set(), "test": set()}
    for split, modules in module_of.items():
        modules |= {len(tree.children) - 2 for tree, _ in getattr(data, split)}
    assert not any(module_of[a] & module_of[b] for a, b in (("train", "valid"), ("train", "test"), ("valid", "test")))
    assert set().union(*module_of.values()) == set(range(60))
    for split, modules in module_of.items():
        assert {split_of(f"pack{n % 3}/module{n}.py") for n in modules} <= {split}


def test_splits_do_not_depend_on_the_process():
    # Worked out once: a change would move functions between training and test.
    paths = ("os.py", "json/decoder.py", "pickle.py", "mailbox.py")
    assert [split_of(path) for path in paths] == ["valid", "train", "test", "valid"]
    shares = Counter(split_of(f"module{n}.py") for n in range(5_000))
    assert abs(shares["train"] / 5_000 - 0.8) < 0.02 and abs(shares["test"] / 5_000 - 0.1) < 0.02


def test_a_subset_takes_a_few_functions_of_every_file_first(library):
    root = library(**{f"module{n}": "".join(f"def f{k}(): {'pass;' * (n + 1)}\n" for k in range(40)) for n in range(5)})
    for wanted, from_each in ((50, [10] * 5), (200, [40] * 5), (None, [40] * 5)):
        data = python_functions(wanted, library=root)
        sizes = Counter(tree.size for tree, _ in data.train + data.valid + data.test)
        assert sorted(sizes.values()) == from_each


def test_what_cannot_be_read_as_python_is_counted(library):
    root = library(
        fine="def get(): pass",
        escape=r"def is_(): '\d'",
        broken="def (",
        null=b"def f(): pass\0",
        latin=b"def f(): '\xe9'",
        cookie=b"# coding: latin-1\ndef f(): '\xe9'",
        deep="def f(): return " + "-" * 100_000 + "1",
        test__test_it="def f(): pass",
        pack__tests__it="def f(): pass",
    )
    data = python_functions(library=root)
    assert data.unparsed == ("broken.py", "deep.py", "latin.py", "null.py")
    assert data.files == 7
    assert len(data.train + data.valid + data.test) == 3


def test_functions_of_too_many_nodes_are_counted(library):
    root = library(module="def f(): pass\ndef g(): pass; pass; pass\ndef h(): pass; pass")
    data = python_functions(library=root, max_nodes=4)
    assert sorted(tree.size for tree, _ in data.train + data.valid + data.test) == [3, 4]
    assert data.too_large == 1


def test_a_long_chain_of_operators_is_no_deeper_than_python_allows():
    (function,) = functions_of("def f(): return " + "+".join(["1"] * 400))
    assert function.tree.depth > 400
    assert pickle.loads(pickle.dumps(function.tree)) == function.tree


def test_a_split_without_functions_has_no_majority(library):
    data = python_functions(library=library(module="def f(): pass"))
    assert sorted(data.majority(split) for split in ("train", "valid", "test"))[:2] == [0.0, 0.0]


def test_ties_between_words_fall_by_alphabet_and_other_stays_last(library):
    names = ["set_a", "get_a", "other_a", "other_b", "is_a", "is_b", "_"]
    sources = {f"module{n}": "\n".join(f"def {name}(): pass" for name in names) for n in range(4)}
    data = python_functions(library=library(**sources), words=2)
    assert split_of("module0.py") == "train"
    assert data.classes == ("is", "get", "other")
    assert [data.classes[label] for _, label in data.train[:7]] == [
        "other",
        "get",
        "other",
        "other",
        "is",
        "is",
        "other",
    ]


@pytest.mark.parametrize("argument", ["max_functions", "max_nodes", "words"])
def test_numbers_below_one_are_refused(argument):
    with pytest.raises(DataError, match=f"^{argument} must be at least 1, got 0$"):
        python_functions(**{argument: 0})


def test_a_folder_without_functions_is_refused(tmp_path):
    for folder in (tmp_path, tmp_path / "none"):
        with pytest.raises(DataError, match="expected the sources of Python's standard library"):
            python_functions(library=folder)


def test_kinds_are_fixed_by_the_ast_module():
    assert KINDS[0] == "unknown"
    assert list(KINDS[1:]) == sorted(set(KINDS[1:]))
    assert {"FunctionDef", "Name", "Load"} <= set(KINDS)
