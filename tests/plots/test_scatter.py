"""Points are told apart by colour, and by shape where colours run out."""

import numpy as np
from matplotlib.figure import Figure

from pyro_mgvi import plots


def test_more_labels_than_colours_differ_in_shape():
    rng = np.random.default_rng(0)
    labels = np.repeat([f"type {i:02d}" for i in range(20)], 3)
    ax = plots.scatter(Figure().subplots(), rng.normal(size=(60, 2)), labels)
    handles = ax.get_legend().legend_handles
    looks = {(tuple(h.get_facecolor()[0]), h.get_paths()[0].vertices.tobytes()) for h in handles}
    assert len(handles) == 20 and len(looks) == 20
    assert sum(len(x.get_offsets()) for x in ax.collections) == 60
