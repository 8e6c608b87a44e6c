"""The likelihood of one dimension's cell counts, its unknown mean integrated out.

Notation (docs/method.md, section 12). A dimension's occupied cells are the intervals low[j] to
high[j], and count[j] of the n tokens lie in each. Of Gaussian noise of width sigma around a mean mu

    f(mu) = sum_j count[j] log p_j(mu),    p_j(mu) = Phi((high[j] - mu) / sigma)
                                                     - Phi((low[j] - mu) / sigma),

(equation 12.2), which is concave, because log p_j is. The integral of exp(f), equation 12.1, is
taken from the mode outwards, as far as f falls by `_DROP`, with Gauss-Legendre nodes on either
side: O(cells x nodes). Kernels work in place, O(1) memory besides the arrays they are given.
"""

from __future__ import annotations

import math

import numpy as np

from deadtokens.kernels.compiling import array_kernel, kernel
from deadtokens.kernels.types import Float64Array, Int64Array

_DROP = 32.0  # exp(-32) = 1e-14 of the peak is where an integral ends
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(24)
_EDGE_NODES, _EDGE_WEIGHTS = np.polynomial.legendre.leggauss(96)
_EDGE = 9.0  # standard deviations beyond which a token does not get
_ROUND = 4.0  # half-widths in standard deviations below which an unsplit cell's integrand is a peak
_SQRT2 = math.sqrt(2.0)
_LOG_SQRT_2PI = 0.5 * math.log(2.0 * math.pi)
# Beyond so many standard deviations tails are exponentials: erfc underflows soon after.
_FAR = 36.0
_NARROW = 1e-3
_STEPS = 200
_GRID = 512


@kernel
def _far_tail(x: float) -> float:
    # P(z > |x|) of a standard normal z.
    return 0.5 * math.erfc(abs(x) / _SQRT2)


@kernel
def cell_log_probability(a: float, b: float, width: float, tail_a: float, tail_b: float) -> float:
    """log(Phi(b) - Phi(a)), given b - a, of which the ends may not tell, and their `_far_tail`.

    O(1); a term of equation 12.2, from the tails, their asymptotic series or the density's.
    """
    middle = 0.5 * abs(a + b)
    if width * (1.0 + middle) < _NARROW:
        square = middle * middle
        bend = math.log1p((square - 1.0) * width * width / 24.0)
        return math.log(width) - _LOG_SQRT_2PI - 0.5 * square + bend
    near = max(a, -b)
    if near > _FAR:
        fall = width * (near + 0.5 * width)
        # The tail's next term, 1 - 1 / near^2, as much of it as lies in the cell.
        bend = (1.0 - (fall / math.expm1(fall) if fall < 700.0 else 0.0)) / (near * near + 3.0)
        return (
            math.log1p(-math.exp(-fall))
            + math.log1p(-bend)
            - 0.5 * near * near
            - math.log(near)
            - _LOG_SQRT_2PI
        )
    # An interval across 0 takes 1 minus both tails, so that no digits are lost.
    return math.log(1.0 - tail_a - tail_b if near < 0.0 else abs(tail_a - tail_b))


@kernel
def _cell_slope(a: float, b: float) -> float:
    # How log(Phi(b) - Phi(a)) changes with the mean, in standard deviations: E[z | a < z < b].
    middle = 0.5 * (a + b)
    width = b - a
    if width * (1.0 + abs(middle)) < _NARROW:
        return middle * (1.0 - width * width / 12.0)
    near = max(a, -b)
    if near > _FAR:
        slope = near + 1.0 / near
        if near * width < 700.0:
            slope -= width / math.expm1(near * width)
        return slope if a > 0.0 else -slope
    densities = math.exp(-0.5 * a * a) - math.exp(-0.5 * b * b)
    log_p = cell_log_probability(a, b, width, _far_tail(a), _far_tail(b))
    return densities * math.exp(-_LOG_SQRT_2PI - log_p)


@kernel
def _height(
    mu: float, low: Float64Array, high: Float64Array, count: Int64Array, sigma: float
) -> float:
    # f(mu), O(cells); neighbouring cells share the tail at the boundary between them.
    total = 0.0
    b = np.inf
    tail_b = 0.0
    for j in range(count.size):
        a = (low[j] - mu) / sigma
        tail_a = tail_b if a == b else _far_tail(a)
        b = (high[j] - mu) / sigma
        tail_b = _far_tail(b)
        total += count[j] * cell_log_probability(a, b, (high[j] - low[j]) / sigma, tail_a, tail_b)
    return total


@kernel
def _slope(
    mu: float, low: Float64Array, high: Float64Array, count: Int64Array, sigma: float
) -> float:
    # The derivative of f times sigma, O(cells).
    total = 0.0
    for j in range(count.size):
        total += count[j] * _cell_slope((low[j] - mu) / sigma, (high[j] - mu) / sigma)
    return total


@kernel
def _mode(low: Float64Array, high: Float64Array, count: Int64Array, sigma: float) -> float:
    # The slope falls from positive at the lowest boundary to negative at the highest: regula falsi
    # (Illinois), every third step a halving, until the slope or the bracket is next to nothing
    # beside the peak's, whose width is sigma / sqrt(n) or more. O(cells x steps).
    left = low[0]
    right = high[count.size - 1]
    rise = _slope(left, low, high, count, sigma)
    fall = _slope(right, low, high, count, sigma)
    root = math.sqrt(count.sum())
    middle = 0.5 * (left + right)
    for i in range(_STEPS):
        middle = (left * fall - right * rise) / (fall - rise)
        if i % 3 == 2 or not left < middle < right:
            middle = 0.5 * (left + right)
        slope = _slope(middle, low, high, count, sigma)
        if abs(slope) < 0.01 * root or right - left < 0.02 * sigma / root:
            break
        if slope > 0.0:
            left = middle
            rise = slope
            fall *= 0.5
        else:
            right = middle
            fall = slope
            rise *= 0.5
    return middle  # type: ignore[no-any-return]


@kernel
def _end(
    mode: float,
    peak: float,
    step: float,
    low: Float64Array,
    high: Float64Array,
    count: Int64Array,
    sigma: float,
) -> float:
    # How far from the mode, in the direction of step, f has fallen by _DROP or a little more.
    near = 0.0
    far = step
    for _ in range(_STEPS):
        if peak - _height(mode + far, low, high, count, sigma) >= _DROP:
            break
        near = far
        far *= 2.0
    for _ in range(3):
        middle = 0.5 * (near + far)
        if peak - _height(mode + middle, low, high, count, sigma) >= _DROP:
            far = middle
        else:
            near = middle
    return far


@kernel
def log_likelihood(low: Float64Array, high: Float64Array, count: Int64Array, sigma: float) -> float:
    """Log of the integral of exp(f) over mu (equation 12.1); O(cells x nodes)."""
    mode = _mode(low, high, count, sigma)
    peak = _height(mode, low, high, count, sigma)
    step = 6.0 * sigma / math.sqrt(count.sum())
    total = 0.0
    for side in (-1.0, 1.0):
        reach = _end(mode, peak, side * step, low, high, count, sigma)
        part = 0.0
        for i in range(_NODES.size):
            mu = mode + 0.5 * reach * (1.0 + _NODES[i])
            # Where f is of the order of 1e17, a sigma far too small, its rounding exceeds any peak.
            rise = min(_height(mu, low, high, count, sigma) - peak, _DROP)
            part += _WEIGHTS[i] * math.exp(rise)
        total += 0.5 * abs(reach) * part
    return peak + math.log(total)  # type: ignore[no-any-return]


@kernel
def log_likelihoods(
    first: Int64Array,
    low: Float64Array,
    high: Float64Array,
    count: Int64Array,
    sigma: float,
    result: Float64Array,
) -> None:
    """`log_likelihood` of many dimensions; O(cells x nodes) over all of them.

    Args:
        first: (k + 1,) int64, where each dimension's occupied cells begin; two or more each.
        low: (cells,) float64, lower boundaries, ascending within a dimension.
        high: (cells,) float64, upper boundaries.
        count: (cells,) int64, tokens in each.
        sigma: Of the noise, above 0.
        result: (k,) float64, overwritten.
    """
    for k in range(result.size):
        cells = slice(first[k], first[k + 1])
        result[k] = log_likelihood(low[cells], high[cells], count[cells], sigma)


@kernel
def log_unsplit(low: Float64Array, high: Float64Array, count: Int64Array, sigma: float) -> float:
    """Log of the integral over mu of p(mu)^n, for n tokens that all lie in one cell.

    It is E[(width - sigma R)+] with R the range of n standard normals (equation 12.3). The two
    halves of the cell are alike, and far inside p is 1. O(nodes).
    """
    half = 0.5 * (high[0] - low[0]) / sigma
    if half < _ROUND:
        return log_likelihood(low, high, count, sigma)  # type: ignore[no-any-return]
    edge = min(half, _EDGE)
    total = half - edge
    for i in range(_EDGE_NODES.size):
        inside = -_ROUND + 0.5 * (edge + _ROUND) * (1.0 + _EDGE_NODES[i])
        other = 2.0 * half - inside
        log_p = cell_log_probability(
            -inside, other, 2.0 * half, _far_tail(inside), _far_tail(other)
        )
        total += 0.5 * (edge + _ROUND) * _EDGE_WEIGHTS[i] * math.exp(count[0] * log_p)
    return math.log(2.0 * sigma * total)


@kernel
def log_unsplits(
    low: Float64Array, high: Float64Array, count: Int64Array, sigma: float, result: Float64Array
) -> None:
    """`log_unsplit` of many cells, all arrays (k,); O(k x nodes)."""
    for k in range(result.size):
        cell = slice(k, k + 1)
        result[k] = log_unsplit(low[cell], high[cell], count[cell], sigma)


@array_kernel
def centres(
    first: Int64Array,
    low: Float64Array,
    high: Float64Array,
    count: Int64Array,
    sigma: float,
    tail: float,
    mean: Float64Array,
    lower: Float64Array,
    upper: Float64Array,
) -> None:
    """Posterior mean of mu in each dimension (equation 12.6), and the quantiles tail and 1 - tail.

    By an even grid of `_GRID` steps: O(cells x _GRID) time, O(_GRID) memory.

    Args:
        first: As in `log_likelihoods`, but with one cell or more each,
        low: likewise,
        high: likewise,
        count: likewise.
        sigma: Of the noise, above 0.
        tail: Probability beyond either quantile.
        mean: (k,) float64, overwritten.
        lower: (k,) float64, overwritten.
        upper: (k,) float64, overwritten.
    """
    density = np.empty(_GRID + 1)
    for k in range(mean.size):
        cells = slice(first[k], first[k + 1])
        lows, highs, counts = low[cells], high[cells], count[cells]
        mode = _mode(lows, highs, counts, sigma)
        peak = _height(mode, lows, highs, counts, sigma)
        step = 6.0 * sigma / math.sqrt(counts.sum())
        left = _end(mode, peak, -step, lows, highs, counts, sigma)
        right = _end(mode, peak, step, lows, highs, counts, sigma)
        gap = (right - left) / _GRID
        total = 0.0
        moment = 0.0
        for i in range(_GRID + 1):
            offset = left + gap * i
            density[i] = math.exp(_height(mode + offset, lows, highs, counts, sigma) - peak)
            total += density[i]
            moment += density[i] * offset
        mean[k] = mode + moment / total
        lower[k] = mode + _quantile(density, total, tail, left, gap)
        upper[k] = mode + _quantile(density, total, 1.0 - tail, left, gap)


@kernel
def _quantile(density: Float64Array, total: float, q: float, left: float, gap: float) -> float:
    # Of a density on an even grid, zero at both ends: each node stands for the gap around it. O(k).
    reached = 0.0
    for i in range(density.size):
        if reached + density[i] >= q * total:
            return left + gap * (i - 0.5 + (q * total - reached) / density[i])  # type: ignore[no-any-return]
        reached += density[i]
    return left + gap * (density.size - 1)
