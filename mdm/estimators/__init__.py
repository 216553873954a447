"""The bounds and distances themselves: pure functions of critic outputs and samples, as the corrected mathematics has them.

    bounds      from a critic's values or scores
    densities   from a learned conditional, and entropies by second moments
    kernels     from samples, by kernels
    moments     from samples, by moments

Every function returns the *estimate* as a scalar tensor, in nats where it is about an information; a loss that maximises
dependence subtracts it. A value on the rows that a critic was just fitted on is not a bound: measure on others. All is computed in
single precision at least, under autocast too.

What each is, and below it the closed forms and libraries that `tests/estimators` holds it to:

donsker_varadhan: lower bound on KL(P‖Q) where E_Q is exact; the value of m rows is biased upwards
    KL at log p/q + c on finite alphabets; linear critics θμ − θ²/2; the best in [0, 1]; bias (e^{θ²} − 1)/2m; linear fusion
nwj: lower bound on KL(P‖Q), without that bias and never above the former
    as there, at 1 + log p/q; KL − 1/e without the 1
f_divergence: lower bound on D_f(P‖Q)
    all six at f'(p/q) on finite alphabets, and no critic above; Gaussians; jensen_shannon = 2 log 2 − logistic_loss; kl = nwj
kantorovich_rubinstein: lower bound on W1 for a 1-Lipschitz critic, else no bound
    exact W1 of samples (POT, scipy); translations; spreads; Gaussians from both sides; the noise of a memorised sample
logistic_loss: no estimate but a loss
    2 log 2 − 2·JS at log p/q, its minimum
info_nce: lower bound on I(X; Y), at most log n
    by hand; 0 and log n; the range of cosines; ρ = .9
barber_agakov: plus H(Y), lower bound on I(X; Y)
    densities (scipy); I of a linear Gaussian channel; ½ Σ (s² − 1 − log s²) less for another variance
club: upper bound on I(X; Y) if its q is the true conditional, else of either sign
    all pairs (scipy); ρ²/(1 − ρ²) in both directions; aρ/s² for a wrong q; 1 − 1/n of it with the diagonal
gaussian_entropy: upper bound on the entropy of any law with these moments; lowered by small samples
    scipy; bias of log det by digammas; gradient
gaussian_mixture_entropy: upper bound on the entropy of a mixture of such laws
    integrals of −p log p at separations from 0 to 8; weights
mmd2: squared distance of laws; V-statistic ≥ 0, or of both signs
    kernels of sklearn; Gaussians; mean 0 for equal laws, or the V-statistic's bias
mmd2_to_standard_normal: squared distance from N(0, I), V-statistic
    quadrature; the limit of many samples; blocks that are copies
median_scale: no estimate but a kernel's s
    numpy; twice the median of χ²
hsic: squared distance of the joint law from the product; V-statistic ≥ 0, or of both signs
    tr(KHLH) with kernels of sklearn; sums over all fours of rows; MMD² of joint and product rows; Gaussians; linear CKA; 0 and 1
canonical_correlation: linear dependence; biased upwards by small samples
    Gaussians of known correlations under any linear maps; independent rows; k for y = x; finite differences
central_moment_discrepancy: distance of moments; 0 for some laws that differ
    scipy's moments; by hand
orthogonality: no dependence: 0 for directions that are orthogonal
    by hand; what each form sees
mardia_kurtosis: no distance but a shape, ≥ p²
    Mahalanobis lengths (scipy); p(p+2), (n−1)/(n+1) of it for n rows; sphere; uniform, Laplace, t; affine maps; p² at n = p + 1
"""

from mdm.estimators.bounds import (
    DIVERGENCES,
    DivergenceName,
    donsker_varadhan,
    f_divergence,
    info_nce,
    kantorovich_rubinstein,
    logistic_loss,
    nwj,
)
from mdm.estimators.densities import barber_agakov, club, gaussian_entropy, gaussian_mixture_entropy
from mdm.estimators.kernels import hsic, median_scale, mmd2, mmd2_to_standard_normal
from mdm.estimators.moments import canonical_correlation, central_moment_discrepancy, mardia_kurtosis, orthogonality

__all__ = [
    "DIVERGENCES",
    "DivergenceName",
    "barber_agakov",
    "canonical_correlation",
    "central_moment_discrepancy",
    "club",
    "donsker_varadhan",
    "f_divergence",
    "gaussian_entropy",
    "gaussian_mixture_entropy",
    "hsic",
    "info_nce",
    "kantorovich_rubinstein",
    "logistic_loss",
    "mardia_kurtosis",
    "median_scale",
    "mmd2",
    "mmd2_to_standard_normal",
    "nwj",
    "orthogonality",
]
