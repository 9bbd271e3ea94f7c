"""Latents and their copies: who owns what, under which name, and what is refused."""

import numpy as np
import pyro.distributions as dist
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pyro_mgvi import MGVI, SettingsError
from pyro_mgvi.core import Absent, Latents, SameAsOwn, pairwise, per, private, shared, subsets
from pyro_mgvi.core.latents.text import as_text, parse

GROUPS = ("a", "b", "c")


@pytest.mark.parametrize(
    "latents, message",
    [
        ((shared(3), private(2, name="z")), "overlap"),
        ((subsets("t", [["group1"]]), private(2)), "overlap.*as in private.5, name='own'.; rename"),
        ((shared(3, name="t_copies"), private(2)), "overlap"),  # the plate of t
        ((shared(3, name="t_group1"), private(2)), "overlap"),
        ((subsets("u", [["group1", "lung"]]),), "unknown group.*lung"),
        ((subsets("u", [[]]),), "empty subset"),
        ((subsets("u", [["group1", "group1"]]),), "names a group twice"),
        ((subsets("u", []),), "no subset"),
        ((subsets("u", [["group1"], ["group1"]]),), "repeats"),
        ((subsets("u", [["group1", "group2"], ["group2", "group1"]]),), "repeats"),
        ((), "no latent"),
        ((3,), "3 is no latent"),
        (3, "latents=3 is no latent"),
        (None, "latents=None is no latent"),
        (["z:ten"], "'z:ten' is not understood"),
        (["z:²"], "'z:²' is not understood"),
        (["z:-1"], "'z:-1' is not understood"),
        (["z:0"], "dim must be at least 1"),
        (["both=CD4++CD8+:3"], "group without a name.*backslash"),
        (["u=:3"], "group without a name"),
        (("z:x",), "'z:x' is not understood"),
        (("u:3",), "'u:3' is not understood"),
        ((subsets("u", [["group1", "group2", "group3"]], foreign=Absent()),), "all groups"),
    ],
)
def test_bad_latents(adata, latents, message):
    with pytest.raises(SettingsError, match=message):
        MGVI.from_anndata(adata, "group", latents=latents)


@pytest.mark.parametrize("dim", [0, -1, 2.5, "3", None, float("nan"), float("inf")])
def test_bad_dims(dim):
    with pytest.raises(SettingsError, match=r"dim must be (a whole number|at (least|most))"):
        shared(dim)


def test_bad_latent_names_and_priors():
    for name in ("library", "counts", "t one", 3):
        with pytest.raises(SettingsError, match="latent name"):
            private(2, name=name)
    for prior in (dist.Normal(0.0, 1.0).expand([2]).to_event(1), "normal"):
        with pytest.raises(SettingsError, match="prior must be a univariate distribution"):
            shared(2, prior=prior)
    with pytest.raises(SettingsError, match=r"'a' is a text.*\[\['a', 'b'\]\]"):
        subsets("u", ["a", "b"])


@pytest.mark.parametrize("columns", [0, None, [0, 1], b"drug", (), 2.5])
def test_columns_that_are_no_names_are_refused(columns):
    with pytest.raises(SettingsError, match="per takes the name of a column, or several, not"):
        per(columns, 2)


@pytest.mark.parametrize("family", [shared, private, pairwise])
@pytest.mark.parametrize("modalities", [5, "rna", True, [5], []])
def test_modalities_that_are_no_list_of_names_are_refused(family, modalities):
    with pytest.raises(SettingsError, match=r"modalities=.* is no list of names"):
        family(2, modalities=modalities)


def test_a_group_that_no_cell_belongs_to_owns_nothing(adata):
    unused = adata.copy()
    unused.obs["group"] = unused.obs["group"].cat.add_categories("lung")
    for groups in (["lung"], ["group1", "lung"]):
        latents = (shared(3), subsets("few", [groups], 2))
        with pytest.raises(SettingsError, match=r"'lung'.*no cell belongs"):
            MGVI.from_anndata(unused, "group", latents=latents)


def test_dims_are_plain_numbers():
    for dim in (np.int64(3), 3.0, np.float32(3)):
        latent = shared(dim).over(GROUPS)
        assert type(latent.dim) is int and latent == shared(3).over(GROUPS)


def test_copies_know_their_owners_and_their_names():
    families = (shared(3), private(2), pairwise(1), subsets("some", {"x": ["a", "b", "c"]}, 4))
    latents = Latents(families, GROUPS)
    keys = ["z", "t_a", "t_b", "t_c", "pair_a+b", "pair_a+c", "pair_b+c", "some_x"]
    assert [copy.key for copy in latents.copies] == keys
    assert [copy.dim for copy in latents.copies] == [3, 2, 2, 2, 1, 1, 1, 4]
    assert [copy.index for copy in latents.copies] == [0, 0, 1, 2, 0, 1, 2, 0]
    assert [copy.label for copy in latents.copies_of("t")] == list(GROUPS)
    assert [copy.key for copy in latents.copies if copy.shared] == ["z", "some_x"]
    assert [x.name for x in latents.shared] == ["z", "some"]
    assert [x.name for x in latents.specific] == ["t", "pair"]
    assert latents.n_dims == 3 + 3 * 2 + 3 * 1 + 4 and len(latents) == 4
    assert latents["pair"].n_copies == 3 and latents[1].name == "t"
    for copy in latents.copies:
        owners = latents.membership(copy.latent)[copy.index].tolist()
        assert copy.groups == tuple(g for g, owns in zip(GROUPS, owners, strict=True) if owns)


def test_names_stand_for_families_and_copies():
    latents = Latents(["z:3", "t:2"], GROUPS)
    assert latents.resolve(None) == latents.copies
    assert [copy.key for copy in latents.resolve("t")] == ["t_a", "t_b", "t_c"]
    assert [copy.key for copy in latents.resolve(["t_c", "z"])] == ["z", "t_c"]
    with pytest.raises(SettingsError, match=r"unknown latent.*\['u'\].*\['z', 't'\].*'t_a'"):
        latents.resolve(["z", "u"])


def test_texts_stand_for_latents():
    written = Latents(["z:3", "t:2", "pair:1", "few=a+b,c:4"], GROUPS)
    built = [shared(3), private(2), pairwise(1), subsets("few", [["a", "b"], ["c"]], 4)]
    assert written.families == Latents(built, GROUPS).families
    assert Latents("z:3", GROUPS).families == Latents(shared(3), GROUPS).families


ODD = ("CD4+", "CD4+CD8", "a,b", "x:3", "a/b", "back\\slash", "p=q", "end\\", "\\+")


@pytest.mark.parametrize("group", ODD)
def test_any_name_of_a_group_can_be_written(group):
    groups = (*ODD, "plain")
    latent = subsets("u", [[group, "plain"], [group]], 3).over(groups)
    assert parse(as_text(latent, groups)).over(groups) == latent


def test_texts_say_what_families_were_bound_to():
    for text in ("z:10", "t:3", "pair:2", "few=a+b,c:4"):
        assert as_text(parse(text), GROUPS) == text
    assert parse(r"u=CD4\++a\,b:2").subsets == (("CD4+", "a,b"),)
    assert as_text(private(3, name="own"), GROUPS) == "own=a,b,c:3"


NAMES = st.text(st.sampled_from("ab+,:=\\ "), min_size=1)


@given(st.lists(NAMES, min_size=5, max_size=5, unique=True))
def test_the_text_of_a_latent_tells_the_names_of_its_copies(names):
    first, second, *groups = names
    latent = subsets("part", {first: groups[:1], second: groups[1:]}, 2).over(groups)
    back = parse(as_text(latent, groups)).over(groups)
    assert back == latent and back.keys == latent.keys


@pytest.mark.parametrize("text", ["x=one=a,b:2", "x=one=a,one=b:2", "x=one=two=a:2"])
def test_copies_are_all_named_or_none(text):
    with pytest.raises(SettingsError, match=r"latent .(x=)?one="):
        parse(text)
    with pytest.raises(SettingsError, match=r"unknown group.*backslash goes before every \+"):
        parse("u=a+b:2").over(("a+b", "c"))


def test_names_of_copies_are_safe_as_paths():
    latents = Latents([private(2)], ("a/b", "c"))
    assert [copy.key for copy in latents.copies] == ["t_a_b", "t_c"]
    with pytest.raises(SettingsError, match="overlap"):
        Latents([private(2)], ("a/b", "a_b"))
    with pytest.raises(SettingsError, match="belongs to all groups"):
        Latents([shared(2), subsets("s", [GROUPS], foreign=SameAsOwn())], GROUPS)


@pytest.mark.parametrize(
    "prior, message",
    [
        (dist.HalfNormal(1.0), "HalfNormal.* not one of all real numbers"),
        (dist.Uniform(-1.0, 1.0), "Uniform.* not one of all real numbers"),
        (dist.Poisson(2.0), "Poisson.* not one of all real numbers"),
        (dist.Normal(torch.zeros(3), 1.0), "cannot be repeated for 2 dimensions"),
        (
            dist.MixtureSameFamily(dist.Categorical(torch.ones(2)), dist.Normal(torch.ones(2), 1)),
            "cannot be repeated for 2 dimensions",
        ),
    ],
)
def test_a_prior_that_no_dimension_can_have_is_refused(prior, message):
    with pytest.raises(SettingsError, match=f"latent 't'.*{message}.*such as pyro"):
        private(2, prior=prior)
