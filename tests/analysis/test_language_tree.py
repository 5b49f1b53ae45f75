"""Divergence at its limits, and trees against their definition."""

from __future__ import annotations

import random

import numpy as np
import pytest

from smoe_ds.analysis.language_tree import Node, average_linkage, jensen_shannon


def test_divergence_at_its_limits() -> None:
    p, q = np.array([0.5, 0.5, 0, 0]), np.array([0, 0, 0.25, 0.75])
    assert jensen_shannon(p, p) == 0
    assert jensen_shannon(p, q) == jensen_shannon(q, p) == 1


def test_a_tree_by_hand() -> None:
    """b and c are closest; a is 4 and 8 from them, d 10, 10 and 12 from the three others."""
    distance = np.array([[0, 4, 8, 10], [4, 0, 2, 10], [8, 2, 0, 12], [10, 10, 12, 0]], float)
    tree = average_linkage(["a", "b", "c", "d"], distance)
    assert tree.newick() == "((a:3,(b:1,c:1):2):2.33333,d:5.33333)"
    assert tree.leaves == ("a", "b", "c", "d")
    assert tree.as_json()["divergence"] == pytest.approx(32 / 3)
    assert average_linkage(["a"], np.zeros((1, 1))) == Node("a")


def test_trees_against_their_definition() -> None:
    """Each joint is as high as its branches' leaves are apart on average, and no lower than what it joins."""
    draw = random.Random(3)
    for size in (2, 3, 5, 8):
        names = [f"l{i}" for i in range(size)]
        values = np.array([[draw.random() for _ in names] for _ in names])
        distance = (values + values.T) * (1 - np.eye(size))
        tree = average_linkage(names, distance)
        assert sorted(tree.leaves) == names
        closest = min(distance[i, j] for i in range(size) for j in range(i))
        heights = []
        for joint in joints(tree):
            one, other = joint.branches
            apart = [distance[names.index(a), names.index(b)] for a in one.leaves for b in other.leaves]
            assert joint.height == pytest.approx(sum(apart) / len(apart))
            assert joint.height >= max(one.height, other.height)
            heights.append(joint.height)
        assert (len(heights), min(heights)) == (size - 1, closest)


def joints(node: Node) -> list[Node]:
    return [node, *(joint for one in node.branches for joint in joints(one))] if node.branches else []
