"""What noise is worth: the privacy budget of a run, by the accountant of Opacus (extra `privacy`)."""

from __future__ import annotations

from ray_app.errors import InvalidSettings

DELTA = 1e-5


def epsilon(noise_multiplier: float, fraction: float, rounds: int, delta: float = DELTA) -> float:
    """Of weights that came of `rounds` rounds in each of which every store took part with probability `fraction`
    (Rényi accounting of the sampled Gaussian mechanism; Mironov 2017). It is about whole stores: what the published
    weights tell of whether one store took part at all. Raises InvalidSettings where Opacus is not installed."""
    try:
        from opacus.accountants import RDPAccountant
    except ImportError:
        raise InvalidSettings(
            f"noise_multiplier is {noise_multiplier}, and the privacy budget of noise is reckoned by opacus, which is "
            "not installed: pip install 'lemo[privacy]', or train with noise_multiplier 0"
        ) from None
    accountant = RDPAccountant()
    accountant.history = [(noise_multiplier, fraction, rounds)]
    return float(accountant.get_epsilon(delta=delta))
