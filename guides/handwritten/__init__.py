"""Hand-written guides, one module per catalogue problem and named like it; each holds a function `guide`.

They show how a careful practitioner writes a guide: keep the dependences that the posterior has, by an exact
conditional where the model gives one, by a dense normal where it does not. A guide takes the arguments of its model.
Those with an exact conditional read the observed data, and raise `guides.MissingDataError` without them.
"""
