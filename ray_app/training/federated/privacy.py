"""What noise is worth: the privacy budget of a run, by the accountant of Opacus (extra `privacy`)."""

from __future__ import annotations

from importlib.util import find_spec

from ray_app.errors import InvalidSettings

DELTA = 1e-5


def check(noise_multiplier: float) -> None:
    """Raises InvalidSettings for noise where Opacus is not installed. It imports nothing."""
    if noise_multiplier and find_spec("opacus") is None:
        raise InvalidSettings(
            f"noise_multiplier is {noise_multiplier}, and the privacy budget of noise is reckoned by opacus, which is "
            "not installed: pip install 'lemo[privacy]', or train with noise_multiplier 0"
        )


def epsilon(noise_multiplier: float, fraction: float, rounds: int, delta: float = DELTA) -> float:
    """Of weights that came of `rounds` rounds in each of which every store took part with probability `fraction`
    (Rényi accounting of the sampled Gaussian mechanism; Mironov 2017). It is about whole stores: what the published
    weights tell of whether one store took part at all. Raises InvalidSettings where Opacus is not installed."""
    check(noise_multiplier)
    from opacus.accountants import RDPAccountant

    accountant = RDPAccountant()
    accountant.history = [(noise_multiplier, fraction, rounds)]
    return float(accountant.get_epsilon(delta=delta))
