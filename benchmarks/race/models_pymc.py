"""The models of `models_pyro` that NUTS is timed on, in PyMC."""

import pymc as pm


def eight_schools(sigma, y) -> pm.Model:
    with pm.Model() as model:
        mu = pm.Normal("mu", 0.0, 5.0)
        tau = pm.HalfCauchy("tau", 5.0)
        theta_trans = pm.Normal("theta_trans", 0.0, 1.0, shape=len(sigma))
        pm.Normal("y", mu + tau * theta_trans, sigma, observed=y)
    return model


def logistic(X, y) -> pm.Model:
    with pm.Model() as model:
        alpha = pm.Normal("alpha", 0.0, 2.5)
        beta = pm.Normal("beta", 0.0, 2.5, shape=X.shape[-1])
        pm.Bernoulli("y", logit_p=alpha + X @ beta, observed=y)
    return model


MODELS = {model.__name__: model for model in (eight_schools, logistic)}
