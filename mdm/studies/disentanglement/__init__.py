"""Disentanglement (Qian et al., 2024, Figures 4, 5 and 8): what a constraint on representations did to their dependence.

MIRD has a representation of each modality, z_m, and one that they share, z_S. Qian et al. (2024) show by a picture of all of them
that mutual information minimisation (MIM) disentangles them better than an orthogonal constraint (OC) or none (NC): in the picture
they lie more apart. That is another matter. y = x + c is x over again, and lies apart; two independent draws from one law do not.
So both are measured here, on segments that nothing was fitted on:

    separation   how far the representations lie apart as clouds, without a projection
    dependence   what one tells of another, for each pair: linearly, by a kernel, and in nats
    dimensions   how many each has left; what is constant is independent of everything
"""
