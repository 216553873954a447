"""The bounds and distances themselves: pure functions of critic outputs and samples, as the corrected mathematics has them.

    bounds      from a critic's values or scores
    densities   from a learned conditional, and entropies by second moments
    kernels     from samples, by kernels
    moments     from samples, by moments

Every function returns the *estimate* as a scalar tensor, in nats where it is about an information; a loss that maximises
dependence subtracts it. A value on the rows that a critic was just fitted on is not a bound: measure on others.

Lower bounds, in expectation: `nwj` and, never below it, `donsker_varadhan` on KL (a batch's value of the latter is biased upwards);
    `f_divergence` on D_f; `kantorovich_rubinstein` on W1 for a 1-Lipschitz critic; `info_nce` on I; `barber_agakov` on −H(Y|X)
Upper bounds: `club` on I if its q is the true conditional, else of either sign; the entropies, on that of any law with these
    moments and weights
Distances, 0 where the laws agree: `mmd2`, `mmd2_to_standard_normal`, `hsic` (of the joint law from the product); of moments
    only, `central_moment_discrepancy`
None of these: `logistic_loss`, a loss; `orthogonality`, 0 for what is orthogonal; `median_scale`; `mardia_kurtosis`, a shape

What takes samples instead of a critic's values is computed in single precision at least, under autocast too.
"""

from mdm.estimators.bounds import DIVERGENCES, donsker_varadhan, f_divergence, info_nce, kantorovich_rubinstein, logistic_loss, nwj
from mdm.estimators.densities import barber_agakov, club, gaussian_entropy, gaussian_mixture_entropy
from mdm.estimators.kernels import hsic, median_scale, mmd2, mmd2_to_standard_normal
from mdm.estimators.moments import central_moment_discrepancy, mardia_kurtosis, orthogonality

__all__ = [
    "DIVERGENCES",
    "barber_agakov",
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
