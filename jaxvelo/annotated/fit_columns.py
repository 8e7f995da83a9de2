"""What a fit of the dynamical model leaves in an AnnData object."""

# Numbers that a fit of the dynamical model leaves for each gene, jaxvelo's or scVelo's, and times of the cells.
FIT_COLUMNS = tuple(
    f"fit_{name}"
    for name in (
        *("alpha", "beta", "gamma", "t_", "scaling", "std_u", "std_s", "likelihood", "variance", "residual"),
        *("u0", "s0", "steady_u", "steady_s", "alignment_scaling", "pval_steady"),
        *("log_alpha_se", "log_gamma_se", "log_t__se", "log_scaling_se"),
    )
)
FIT_LAYERS = ("fit_t", "fit_tau", "fit_tau_", "fit_on")
FIT_ARRAYS = ("fit_covariance", "loss")
