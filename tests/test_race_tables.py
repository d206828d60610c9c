"""The nodes and polynomials of exact ties in float64, without what float32 rounds."""

import numpy as np
import pytest
import references

from tfrankloss.functional import race_tables


@pytest.mark.parametrize("length", [2, 20, 65, 700, 4000])
def test_nodes_integrate_equal_groups_that_lose(length):
    """n members of rate r come before what arrives at rate 1 with probability prod over j of j r / (j r + 1)."""
    table = race_tables.tables(length)
    times = np.exp(table.log_times)
    for size in sorted({1, length // 2, length - 1}):
        for rate in np.exp(np.linspace(-13.0, np.log(0.5 + np.log(size)), 60)):
            exponents = size * np.log(-np.expm1(-rate * times)) + table.log_times - times + table.log_weights
            expected = -np.log1p(1 / (np.arange(1, size + 1) * rate)).sum()
            assert references.logsumexp(exponents) == pytest.approx(expected, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize(("length", "bound"), [(20, 1e-6), (64, 1e-6), (65, 5e-8), (4000, 5e-8)])
def test_polynomials_meet_what_an_item_adds(length, bound):
    """In the lowest bin, in the others, and at the nodes on both sides of where most items arrive."""
    table = race_tables.tables(length)
    for log_rate in np.linspace(table.lowest - 9, race_tables.HIGHEST - 1e-6, 500):
        place = (log_rate - table.lowest) / table.width
        is_slow = place < 0
        start = -1 if is_slow else np.floor(place)
        inside = np.exp(log_rate - table.lowest) if is_slow else place - start
        powers = (2 * inside - 1) ** np.arange(table.powers)
        rows = slice(int(start + 1) * table.powers, int(start + 2) * table.powers)
        z = log_rate + table.log_times
        waited = np.minimum(np.exp(z), 700.0)
        late = waited / np.expm1(waited)
        arrived = z + np.log(-np.expm1(-waited) / waited) if is_slow else np.log(-np.expm1(-waited))
        np.testing.assert_allclose(powers @ table.arrived[rows] + is_slow * z, arrived, rtol=0, atol=bound)
        np.testing.assert_allclose(powers @ table.late[rows], late, rtol=0, atol=bound)


@pytest.mark.parametrize("length", [1, 20, 4000])
def test_short_lists_need_a_part_of_the_nodes_of_longer_ones(length):
    few, many = race_tables.tables(length), race_tables.tables(2 * length)
    assert len(few.log_times) <= len(many.log_times)
    assert few.log_times[-1] < race_tables.last(length)
