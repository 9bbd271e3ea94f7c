"""The samples that cells are of: read, refused or warned of by name, and kept."""

import warnings

import numpy as np
import pytest

from pyro_mgvi import DataError, DataWarning, GroupedCounts


def with_donors(adata, donors):
    """Put a column of donors into the cells."""
    adata.obs["donor"] = donors
    return adata


@pytest.fixture
def nested(adata):
    number = adata.obs.groupby("group", observed=True).cumcount() % 3
    return with_donors(adata.copy(), [f"{g}.{i}" for g, i in zip(adata.obs["group"], number)])


def read(adata, key="donor"):
    return GroupedCounts.from_anndata(adata, "group", sample_key=key)


def test_samples_go_with_their_cells(nested):
    data, names = read(nested), nested.obs["donor"].to_numpy(str)
    assert data.schema.sample_key == "donor" and "sample 'donor'" in repr(data.schema)
    cells = np.array([7, 3, 90])
    for part in (data.subset(cells), data.view(cells), data.subset(cells).unpacked()):
        np.testing.assert_array_equal(part.sample_n, names[cells])
    shuffled = data.with_groups(data.group_n[::-1])
    np.testing.assert_array_equal(shuffled.sample_n, names)
    new = with_donors(nested[:10].copy(), "another")  # results may be of samples that are new
    again = GroupedCounts.for_schema(new, data.schema)
    assert set(again.sample_n) == {"another"} and set(again.matching(data.schema).sample_n) == {
        "another"
    }
    plain = GroupedCounts.from_anndata(nested, "group")
    assert plain.schema.sample_key is None and set(plain.sample_n) == {""}
    with pytest.raises(DataError, match="sample_key"):
        plain.matching(data.schema)


def test_bad_samples_are_refused_by_name(nested):
    missing = nested.copy()
    missing.obs.loc[missing.obs_names[3], "donor"] = np.nan
    with pytest.raises(DataError, match=r"obs\['donor'\] is missing \(NaN\) for 1 cell"):
        read(missing)
    with pytest.raises(DataError, match="sample_key 'organ' is not a column"):
        read(nested, "organ")
    with pytest.raises(DataError, match="sample_key 'group' is also the group_key"):
        read(nested, "group")
    one_each = with_donors(nested.copy(), [f"of {g}" for g in nested.obs["group"]])
    with pytest.raises(DataError, match="one sample in each group of 'group'"):
        read(one_each)


def test_what_samples_cannot_tell_is_said(nested):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read(nested)
    two = with_donors(
        nested.copy(), [name.replace("group1.2", "group1.1") for name in nested.obs["donor"]]
    )
    with pytest.warns(DataWarning, match="fewer than 3 samples of group1: .* no q-value"):
        read(two)
    lonely = nested.obs["donor"].astype(str).to_numpy()
    lonely[0] = "lonely"
    with pytest.warns(DataWarning, match=r"sample\(s\) of one cell.*: lonely"):
        read(with_donors(nested.copy(), lonely))
    crossed = np.array([f"d{i % 4}" for i in range(nested.n_obs)], object)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read(with_donors(nested.copy(), crossed))
    first = (nested.obs["group"] == "group1").to_numpy()
    crossed[np.flatnonzero(first)[:5]] = "only here"
    with pytest.warns(DataWarning, match="in one group only, beside others in several: only here"):
        read(with_donors(nested.copy(), crossed))


def test_groups_with_few_samples_in_common_are_named_with_these(nested):
    donors = nested.obs["donor"].to_numpy(object)
    moved = donors.copy()
    moved[np.flatnonzero(donors == "group1.0")[:5]] = "group2.0"
    expected = r"of group1, group2, only 1 sample\(s\) \(group2.0\) are in .*; leave out the cells"
    with pytest.warns(DataWarning, match=expected) as said:
        read(with_donors(nested.copy(), moved))
    assert not any(text in str(said[0].message) for text in ("fewer than", "gains nothing"))
    number = nested.obs.groupby("group", observed=True).cumcount().to_numpy() % 4
    apart = nested.obs["group"] == "group3"  # in samples of its own, beside paired ones
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read(with_donors(nested.copy(), [f"{a}{i}" for a, i in zip(apart, number)]))
