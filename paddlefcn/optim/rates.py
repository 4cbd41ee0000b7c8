"""Learning rates that cannot be right for what the loss divides by."""

from __future__ import annotations

# The mean's learning rates that make sense: AlexNet's FCN was published with 1e-4, FCN-32s with what is
# 2.5e-5 over a 500x500 image; training in stages goes down to 2.5e-9, on top of a trained network.
_LARGEST, _SMALLEST, _SMALLEST_TRAINED = 1.0, 1e-7, 1e-9


def rate_warning(learning_rate: float, *, reduction: str, pixels: int, trained: bool = False) -> str | None:
    """One line if a learning rate is wrong by orders of magnitude for the loss's reduction, else None.

    With gradient descent, a mean over `pixels` pixels at rate r is their sum at rate r / pixels. A rate
    that was published for one of them does nothing, or diverges at once, with the other.

    Args:
        learning_rate: of an optimizer in LOSS_SCALED.
        reduction: "mean" or "sum".
        pixels: labelled pixels a batch.
        trained: whether the network starts from one trained for the same task, as in stages.
    """
    summed = reduction == "sum"
    smallest = _SMALLEST_TRAINED if trained else _SMALLEST
    as_mean = learning_rate * pixels if summed else learning_rate
    if smallest <= as_mean <= _LARGEST:
        return None
    effect = f" (what {as_mean:.2g} is with a mean)" if summed else ""
    found = (
        f"learning rate {learning_rate:.3g} is too {'small' if as_mean < smallest else 'large'} by orders of "
        f"magnitude for a loss with reduction: {reduction} over {pixels:,} pixels a batch{effect}"
    )
    other, as_other = ("mean", learning_rate) if summed else ("sum", learning_rate * pixels)
    if smallest <= as_other <= _LARGEST:
        equivalent = learning_rate / pixels if summed else as_other
        return (
            f"{found}; it is one for reduction: {other}, and {equivalent:.2g} is its equivalent for "
            f"reduction: {reduction}"
        )
    scale = pixels if summed else 1
    return f"{found}; usual are {smallest / scale:.0e} to {_LARGEST / scale:.0e}"
