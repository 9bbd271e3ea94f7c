"""Groups of several columns: what is read, and what is refused by name."""

import anndata as ad
import numpy as np
import pytest

from pyro_mgvi import DataError, DataWarning, GroupedCounts, Schema

N = 24


def make(**obs):
    return ad.AnnData(np.ones((N, 5), np.float32), obs=obs)


def crossed(**more):
    tissue = np.where(np.arange(N) % 2, "Ileum", "Colon")
    drug = np.where(np.arange(N) < N // 2, "stim", "ctrl")
    return make(tissue=tissue, drug=drug, **more)


def nested():
    donor = np.repeat([f"d{i}" for i in range(4)], N // 4)
    condition = np.where(np.isin(donor, ["d0", "d1"]), "ctrl", "stim")
    return make(condition=condition, donor=donor)


def test_groups_are_the_combinations_that_occur():
    adata = crossed()
    data = GroupedCounts.from_anndata(adata, ("tissue", "drug"))
    assert data.schema.groups == ("Colon_ctrl", "Colon_stim", "Ileum_ctrl", "Ileum_stim")
    assert data.schema.design.keys == ("tissue", "drug")
    names = np.array(data.schema.groups)[data.group_n]
    joined = (adata.obs["tissue"] + "_" + adata.obs["drug"]).to_numpy()
    assert (names == joined).all()
    as_list = GroupedCounts.from_anndata(adata, ["tissue", "drug"])
    assert as_list.schema == data.schema
    part = adata[(names != "Ileum_stim")]
    assert len(GroupedCounts.from_anndata(part, ("tissue", "drug")).schema.groups) == 3


def test_one_column_is_one_column_however_it_is_given():
    schemas = [GroupedCounts.from_anndata(crossed(), key).schema for key in ("drug", ["drug"])]
    assert schemas[0] == schemas[1] and schemas[0].group_key == "drug"
    assert schemas[0].levels_gc == () and schemas[0].design.groups == ("ctrl", "stim")


def test_other_cells_are_coded_as_the_model_s():
    adata = crossed()
    schema = GroupedCounts.from_anndata(adata, ("tissue", "drug")).schema
    part = adata[(adata.obs["tissue"] == "Ileum").to_numpy()]
    found = GroupedCounts.for_schema(part, schema)
    assert sorted(set(np.array(schema.groups)[found.group_n])) == ["Ileum_ctrl", "Ileum_stim"]
    with pytest.raises(DataError, match=r"group_key \('drug', 'tissue'\).*the model's is"):
        GroupedCounts.from_anndata(adata, ("drug", "tissue")).matching(schema)


def test_a_combination_that_the_model_does_not_know_is_named():
    adata = crossed()
    known = ~((adata.obs["tissue"] == "Ileum") & (adata.obs["drug"] == "stim")).to_numpy()
    schema: Schema = GroupedCounts.from_anndata(adata[known], ("tissue", "drug")).schema
    message = r"knows no cell of Ileum with stim \(tissue with drug\).*Colon with ctrl"
    with pytest.raises(DataError, match=message):
        GroupedCounts.for_schema(adata, schema)


ALIKE = np.where(np.arange(N) % 2, "x", "y")
BAD = {
    "absent": (crossed(), ("tissue", "age"), "group_key 'age' is not a column"),
    "twice": (crossed(), ("tissue", "tissue"), "names a column twice: tissue"),
    "same": (crossed(site=ALIKE), ("tissue", "site"), "'tissue'.*'site'.*say the same"),
    "one level": (crossed(lab=["l"] * N), ("tissue", "lab"), "'lab'.*one group only"),
    "one cell": (crossed(arm=["a"] + ["b", "c"] * 11 + ["b"]), ("tissue", "arm"),
                 r"fewer than 2 cells in obs\['arm'\]: a"),
    "missing": (crossed(arm=["a", None] * 12), ("tissue", "arm"), r"obs\['arm'\] is missing"),
    "batch": (crossed(), ("tissue", "drug"), "batch_key 'drug' is also the group_key"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_columns_are_refused_by_name(case):
    adata, keys, message = BAD[case]
    batch = {"batch_key": "drug"} if case == "batch" else {}
    with pytest.raises(DataError, match=message):
        GroupedCounts.from_anndata(adata, keys, **batch)


def test_a_combination_of_one_cell_is_taken():
    arm = np.array(["a", "b"] * (N // 2))
    arm[0] = "b"  # the only one of Colon with b
    data = GroupedCounts.from_anndata(make(tissue=["Colon", "Ileum"] * 12, arm=np.roll(arm, 2)),
                                      ("tissue", "arm"))  # fmt: skip
    assert np.bincount(data.group_n).min() == 1


def test_nested_columns_are_taken():
    data = GroupedCounts.from_anndata(nested(), ("condition", "donor"))
    assert data.schema.groups == ("ctrl_d0", "ctrl_d1", "stim_d2", "stim_d3")


def test_levels_of_the_same_cells_are_named():
    adata = nested()
    alone = adata[(adata.obs["donor"] != "d1").to_numpy()]
    with pytest.warns(DataWarning, match="ctrl of 'condition' and d0 of 'donor' are the same"):
        GroupedCounts.from_anndata(alone, ("condition", "donor"))


def test_batches_and_samples_are_held_against_each_column():
    lane = np.where(np.arange(N) % 2, "l1", "l2")
    with pytest.warns(DataWarning, match="batch_key 'lane' is the same as the groups of 'tissue'"):
        GroupedCounts.from_anndata(crossed(lane=lane), ("tissue", "drug"), batch_key="lane")
    with pytest.warns(DataWarning, match="one sample in each level of 'donor': no q-value"):
        GroupedCounts.from_anndata(nested(), ("condition", "donor"), sample_key="donor")
