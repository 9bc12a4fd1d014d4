"""Every form: exact at full rank, nearer with every rank, better in the data's norm than the weights' own factors."""

from itertools import pairwise

import numpy as np
import pytest

from graphpress.passes.lowrank._alternating import FULL, Patience, decompose
from graphpress.passes.lowrank._forms import FORMS
from graphpress.passes.lowrank._problem import LayerProblem, regularized
from graphpress.passes.lowrank.tensor_train import folded

RANDOM = np.random.default_rng(0)
KERNELS = [(3, 3), (1, 1), (3,), (2, 3, 2), ()]
START = RANDOM.bit_generator.state
CASES = [(name, kernel) for name, form in FORMS.items() for kernel in KERNELS if form.fits(kernel)]


@pytest.fixture(autouse=True)
def _seeded():
    """Each test draws the same numbers, whichever run before it."""
    RANDOM.bit_generator.state = START


def covariance(blocks, features):
    rows = RANDOM.normal(size=(blocks, 4 * features, features)) * RANDOM.uniform(0.1, 3, size=features)
    rows = rows @ RANDOM.normal(size=(features, features))
    return regularized(rows.swapaxes(1, 2) @ rows / rows.shape[1])


def problem(kernel, *, inputs=6, outputs=8, blocks=2, data=True):
    features = inputs * int(np.prod(kernel))
    weight = RANDOM.normal(size=(blocks, features, outputs))
    return LayerProblem(weight, kernel, covariance(blocks, features) if data else None)


def problem_for(form, kernel, **options):
    """One that the form fits: of a single block where it wants that."""
    task = problem(kernel, **options)
    return task if form.splits(task) else problem(kernel, blocks=1, **options)


def shares(form, task):
    """Ranks from one to the full ones."""
    full = form.full_ranks(task)
    return [tuple(max(1, round(share * rank)) for rank in full) for share in (0.01, 0.25, 0.5, 0.75, 1.0)]


@pytest.mark.parametrize("data", [True, False])
@pytest.mark.parametrize(("name", "kernel"), CASES)
def test_full_rank_is_exact_and_no_rank_is_worse_than_a_lower_one(name, kernel, data):
    form, task = FORMS[name], problem_for(FORMS[name], kernel, data=data)
    errors = [task.error(form.matrix(decompose(form, task, ranks), task)) for ranks in shares(form, task)]
    assert errors[-1] < 1e-10
    assert all(lower >= higher - 1e-12 for lower, higher in pairwise(errors))
    assert errors[0] > 0.01


@pytest.mark.parametrize(("name", "kernel"), CASES)
def test_in_the_norm_of_the_data_it_is_nearer_than_in_that_of_the_weights(name, kernel):
    form, task = FORMS[name], problem_for(FORMS[name], kernel)
    ranks = shares(form, task)[2]
    by_weights = decompose(form, LayerProblem(task.matrix, kernel), ranks)
    by_data = decompose(form, task, ranks)
    assert task.error(form.matrix(by_data, task)) < 0.9 * task.error(form.matrix(by_weights, task))


def test_the_singular_value_decomposition_is_the_optimum_of_the_whitened_weight():
    """The truncated decomposition of Lᵀ W, taken back through L, with C = L Lᵀ."""
    form, task = FORMS["svd"], problem((3, 3), blocks=1)
    lower = np.linalg.cholesky(task.covariance[0])
    left, values, right = np.linalg.svd(lower.T @ task.matrix[0], full_matrices=False)
    for rank in range(1, len(values) + 1):
        expected = np.linalg.solve(lower.T, (left[:, :rank] * values[:rank]) @ right[:rank])
        matrix = form.matrix(decompose(form, task, (rank,)), task)
        np.testing.assert_allclose(matrix[0], expected, atol=1e-8)
        tail = np.square(values[rank:]).sum() / np.square(values).sum()
        assert task.error(matrix) == pytest.approx(tail, abs=1e-10)


def test_a_weight_of_low_rank_is_found_again():
    for name, form in FORMS.items():
        kernel = next(kernel for kernel in KERNELS if form.fits(kernel))
        full = problem_for(form, kernel)
        ranks = tuple(max(1, rank // 4) for rank in form.full_ranks(full))
        low = LayerProblem(form.matrix(form.start(full, ranks), full), kernel, full.covariance)
        assert low.error(form.matrix(decompose(form, low, ranks), low)) < 1e-6, name


@pytest.mark.parametrize("rank", [1, 3])
def test_channel_wise_factors_start_from_kernels_that_all_channels_share(rank):
    """Single kernel positions would need nine times the rank."""
    column, row, between = RANDOM.normal(size=3), RANDOM.normal(size=3), RANDOM.normal(size=(6, rank))
    tensor = np.einsum("h,w,ir,ro->ihwo", column, row, between, RANDOM.normal(size=(rank, 8)))
    task = LayerProblem(tensor.reshape(1, 54, 8), (3, 3))
    assert task.error(FORMS["cp"].matrix(FORMS["cp"].start(task, (rank,)), task)) < 1e-10


def test_more_rounds_never_do_harm_and_stop_when_they_gain_little():
    form, task = FORMS["cp"], problem((3, 3))
    patiences = [Patience(0, 0.0), Patience(1, 0.0), Patience(8, 0.0), FULL]
    errors = [task.error(form.matrix(decompose(form, task, (12,), patience), task)) for patience in patiences]
    assert all(fewer >= more for fewer, more in pairwise(errors))
    assert errors[-1] < 0.8 * errors[1]


def test_channel_wise_factors_in_the_norm_of_the_data_are_nearer_than_refined_ones_of_the_weights():
    """Both with all rounds, where the alternation in the norm of the weights converges faster."""
    form, task = FORMS["cp"], problem((3, 3), inputs=8, outputs=8, blocks=1)
    for rank in (16, 32):
        plain = decompose(form, LayerProblem(task.matrix, (3, 3)), (rank,))
        assert task.error(form.matrix(decompose(form, task, (rank,)), task)) < task.error(form.matrix(plain, task))


@pytest.mark.parametrize(("size", "sizes"), [(512, (8, 8, 8)), (384, (6, 8, 8)), (30522, (2, 3, 5087)), (7, (1, 1, 7))])
def test_channels_are_folded_as_evenly_as_they_divide(size, sizes):
    assert np.prod(folded(size)) == size
    assert folded(size) == sizes


@pytest.mark.parametrize(("name", "kernel"), [(name, kernel) for name, kernel in CASES if FORMS[name].fits_last])
def test_what_goes_through_a_chain_is_as_large_as_what_it_reads(name, kernel):
    form, task = FORMS[name], problem(kernel)
    large = LayerProblem(1e6 * task.matrix, kernel, task.covariance)
    ranks = shares(form, large)[2]
    factors = decompose(form, large, ranks)
    basis = form.basis(factors.parts, form.view(large))
    assert np.square(basis).sum(axis=1).mean() == pytest.approx(1)
    assert large.error(form.matrix(factors, large)) == pytest.approx(
        task.error(form.matrix(decompose(form, task, ranks), task)), rel=1e-3
    )
