"""One rung of the ladder that `guide="auto"` climbs, and what was found there."""

from dataclasses import dataclass

from ppl_models.diagnostics import Check


@dataclass(frozen=True)
class Rung:
    """What was tried, and whether it passed.

    Attributes:
        name: the guide and the method, in words.
        checks: all that was measured, with limits.
        passed: whether every check passed.
        reason: why it did not; empty where it did.
        seconds: spent on this rung.
        evaluations: points at which the gradient of the log density was computed.
        status: how its fit ended; empty where there was none.
        fit_name: name of the guide fitted; empty where there was none.
    """

    name: str
    checks: tuple[Check, ...]
    passed: bool
    reason: str
    seconds: float
    evaluations: int
    status: str
    fit_name: str = ""

    def __str__(self) -> str:
        said = "passed" if self.passed else f"refused: {self.reason}"
        return f"{self.name} ({self.seconds:.1f} s): {said}"


def reason_of(checks: tuple[Check, ...]) -> str:
    """The failed checks in words."""
    failed = [check for check in checks if check.passed is not True]
    return "; ".join(
        f"{check.name} {check.measured} (limit {check.limit:.3g}{', ' + check.detail if check.detail else ''})"
        for check in failed
    )
