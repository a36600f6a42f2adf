"""Adjusted p values against statsmodels."""

import numpy as np
import pytest
from statsmodels.stats.multitest import multipletests

from spinect.errors import InputError
from spinect.evaluation.stats.multiplicity import benjamini_hochberg, holm

PAIRS = [(holm, "holm"), (benjamini_hochberg, "fdr_bh")]
FAMILIES = [
    [0.04],
    [0.01, 0.01, 0.01],
    [0.0, 1.0, 0.5, 0.5],
    [1.0, 1.0],
    *np.random.default_rng(0).beta(0.3, 1, (5, 12)),
]


@pytest.mark.parametrize("family", FAMILIES, ids=lambda f: f"{len(f)} tests")
@pytest.mark.parametrize(("adjust", "name"), PAIRS)
def test_adjusted_p_is_statsmodels(adjust, name, family):
    wanted = multipletests(family, method=name)[1]
    np.testing.assert_allclose(adjust(family), wanted, atol=1e-12)


@pytest.mark.parametrize("adjust", [holm, benjamini_hochberg])
def test_a_test_that_was_not_made_takes_no_part(adjust):
    found = adjust([0.03, np.nan, 0.01])
    assert np.isnan(found[1])
    np.testing.assert_allclose(found[[0, 2]], adjust([0.03, 0.01]))
    assert np.isnan(adjust([np.nan])).all()


def test_holm_by_hand():
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03]), [0.03, 0.06, 0.06])


@pytest.mark.parametrize("adjust", [holm, benjamini_hochberg])
def test_statistics_in_place_of_p_are_refused(adjust):
    with pytest.raises(InputError, match=r"2\.3"):
        adjust([0.1, 2.3])
