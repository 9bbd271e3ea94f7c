"""Covering arrays: few configurations that hold every pair of levels of any two factors."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from itertools import combinations, product

import numpy as np

Level = tuple[str, str]  # a factor and one of its levels
Pair = frozenset[Level]
Configuration = dict[str, str]  # a level of each factor

CANDIDATES = 30  # of which the one that covers most is taken


def all_pairs(factors: Mapping[str, Collection[str]]) -> Iterator[Pair]:
    """Yield every pair of levels of two factors.

    Examples
    --------
    >>> len(list(all_pairs({"a": "xy", "b": "uvw", "c": "k"})))
    11
    """
    for one, other in combinations(factors, 2):
        for levels in product(factors[one], factors[other]):
            yield frozenset(zip((one, other), levels))


def pairs_of(configuration: Configuration) -> set[Pair]:
    """Return the pairs that a configuration holds."""
    return {frozenset(pair) for pair in combinations(configuration.items(), 2)}


def covering(
    factors: Mapping[str, Collection[str]], excluded: Collection[Pair] = ()
) -> list[Configuration]:
    """Return configurations that hold each pair at least once, but none of those excluded.

    Greedy: each is begun with a pair that is missing, and goes on with the level that adds most
    pairs, in some random order of the factors; the best of some such is taken. The same factors
    give the same configurations.

    Examples
    --------
    >>> found = covering({"a": "xy", "b": "xy", "c": "xy"})
    >>> len(found), len(set().union(*map(pairs_of, found)))
    (4, 12)
    """
    rng, excluded = np.random.default_rng(0), frozenset(excluded)
    missing = {pair: None for pair in all_pairs(factors) if pair not in excluded}
    found = []
    while missing:
        first = next(iter(missing))
        best = max(
            (_grown(dict(first), factors, missing, excluded, rng) for _ in range(CANDIDATES)),
            key=lambda candidate: len(pairs_of(candidate) & missing.keys()),
        )
        held = pairs_of(best)
        missing = {pair: None for pair in missing if pair not in held}
        found.append({factor: best[factor] for factor in factors})
    return found


def _grown(
    chosen: Configuration,
    factors: Mapping[str, Collection[str]],
    missing: Mapping[Pair, None],
    excluded: frozenset[Pair],
    rng: np.random.Generator,
) -> Configuration:
    """Return a whole configuration that begins with some levels."""
    rest = [factor for factor in factors if factor not in chosen]
    for factor in rng.permutation(rest):
        gains = {}
        for level in rng.permutation(list(factors[factor])):
            new = {frozenset([(str(factor), str(level)), other]) for other in chosen.items()}
            if excluded.isdisjoint(new):
                gains[str(level)] = len(new & missing.keys())
        chosen[str(factor)] = max(gains, key=gains.__getitem__)
    return chosen
