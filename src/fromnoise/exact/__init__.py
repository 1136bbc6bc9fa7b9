"""Exact answers: for a finite set or a mixture of Gaussians the best possible denoiser is known.

A mixture p(x0) = sum_k w_k N(m_k, S_k) stays a mixture under noise, with means alpha m_k and covariances
C_k = alpha^2 S_k + sigma^2 I (`GaussianMixture.noised`). So, with the responsibilities r_k(x_t) of its components,

    log p_t(x_t) = log sum_k w_k N(x_t; alpha m_k, C_k)
    score        = sum_k r_k C_k^{-1} (alpha m_k - x_t)
    E[x0 | x_t]  = sum_k r_k (m_k + alpha S_k C_k^{-1} (x_t - alpha m_k))

A finite set is the mixture with S_k = 0. Rows are taken in blocks, so that 100,000 points need no matrix of
100,000 x 100,000. Distances in small dimensions are sums of differences, which stay exact when sigma is small; in large
ones they are matrix products in float64, and where those are too coarse the components that matter are taken by
differences too. A set of pictures is read in parts and never copied.
"""

from fromnoise.exact.denoiser import ExactDenoiser
from fromnoise.exact.finite import FiniteSet
from fromnoise.exact.mixture import GaussianMixture
from fromnoise.exact.of_data import mixture_of_data

__all__ = ["ExactDenoiser", "FiniteSet", "GaussianMixture", "mixture_of_data"]
