"""Types are those of inner nodes alone, and a made label is the worth of its tree."""

from bale.data import Tree, random_typed_trees, with_node_types


def nodes_of(tree):
    waiting, nodes = [tree], []
    while waiting:
        node = waiting.pop()
        nodes.append(node)
        waiting += node.children
    return nodes


def shape(tree):
    return tree.kind if not tree.children else tuple(map(shape, tree.children))


def test_words_and_labels_stay():
    samples = random_typed_trees(50, 1, leaves=6)
    typed = with_node_types(iter(samples), 2)
    assert typed == with_node_types(samples, 2) != with_node_types(samples, 3)
    assert [(shape(tree), label) for tree, label in typed] == [(shape(tree), label) for tree, label in samples]
    kinds = [node.kind for tree, _ in typed for node in nodes_of(tree) if node.children]
    assert set(kinds) == {0, 1} and 0.4 < sum(kinds) / len(kinds) < 0.6


def test_the_label_is_the_worth_of_the_tree():
    """Trees of one word tell what it is worth; all the others must agree."""
    samples = random_typed_trees(2_000, 3, words=5, leaves=2, classes=9)
    worth = {tree.kind: label - 4 for tree, label in samples if not tree.children}
    assert len(worth) == 5 and set(worth.values()) <= {-1, 0, 1}

    def total(tree: Tree):
        if not tree.children:
            return worth[tree.kind]
        left, right = map(total, tree.children)
        return left - right if tree.kind == 1 else left + right

    for tree, label in samples:
        assert label == total(tree) + 4


def test_labels_are_cut_off_at_the_ends():
    assert {label for _, label in random_typed_trees(200, 4)} == set(range(5))
