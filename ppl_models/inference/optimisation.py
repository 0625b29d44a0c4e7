"""The loop around SVI steps: find a step size, average at it until that is as good as it gets, lower it, and stop."""

from ppl_models.inference.averaging import Averaging
from ppl_models.inference.course import Plan, Trajectory
from ppl_models.inference.epochs import EpochPlan, Epochs
from ppl_models.inference.held_out import Evaluate, HeldOut
from ppl_models.inference.plain_course import Plain
from ppl_models.inference.steps import Steps
from ppl_models.progress import Update


def optimise(
    steps: Steps, plan: Plan, update: Update, evaluate: Evaluate | None = None, epochs: EpochPlan | None = None
) -> Trajectory:
    """Run steps until the ELBO can be expected to gain no more, or the budget is used up.

    Args:
        steps: makes the steps; where they are an optimizer's of the user's, all of `max_steps` are made.
        plan: the budget.
        update: told of the steps done and of the smoothed ELBO.
        evaluate: gives the loss on data held out, which then decides when to stop.
        epochs: how a training by epochs goes; None for steps alone.

    The param store ends with the best average of the iterates, or with the last parameters whose loss was finite.
    """
    if epochs is not None:
        return Epochs(steps, plan, update, epochs).run()
    if evaluate is not None:
        return HeldOut(steps, plan, update, evaluate).run()
    kind = Averaging if steps.adjustable and steps.maker.averaged and plan.averaged else Plain
    return kind(steps, plan, update).run()
