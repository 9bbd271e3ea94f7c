"""Numbers read well."""

import numpy as np
import pandas as pd

from pyro_mgvi.report.blocks import Table


def test_numbers_read_well():
    frame = pd.DataFrame({"a": [1234567, -3], "b": [0.000123456, np.nan], "c": [98765.4, -0.5]})
    table = Table(frame.assign(d=["x", "<y>"]), "caption")
    assert table.rows == [
        ["1,234,567", "0.000123", "98,765", "x"],
        ["\N{MINUS SIGN}3", "-", "\N{MINUS SIGN}0.5", "<y>"],
    ]
    assert table.numeric == [True, True, True, False]
