"""No two modules import each other, however far around: also within functions, and for types alone."""

import grimp
import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components


def circles(graph: grimp.ImportGraph) -> list[list[str]]:
    """Modules that reach each other by imports, a list for each circle."""
    names = sorted(graph.modules)
    number = {name: i for i, name in enumerate(names)}
    pairs = [(number[a], number[b]) for a in names for b in graph.find_modules_directly_imported_by(a)]
    rows, columns = np.array(pairs).T
    arrows = coo_array((np.ones(len(pairs)), (rows, columns)), shape=(len(names), len(names)))
    _, labels = connected_components(arrows, connection="strong")
    found = [[name for name, one in zip(names, labels, strict=True) if one == label] for label in np.unique(labels)]
    return [group for group in found if len(group) > 1]


def test_there_are_no_circles():
    graph = grimp.build_graph("arch", "train", "experiments")
    assert circles(graph) == []
    graph.add_import(importer="arch.spec", imported="arch.models.decoder")
    assert any({"arch.spec", "arch.models.decoder"} <= set(group) for group in circles(graph))
