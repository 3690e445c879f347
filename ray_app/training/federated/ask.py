"""What a task asks of a federated training."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ray_app.training.federated.average import Privacy
from ray_app.training.federated.rounds import Plan


class FederatedAsk(BaseModel):
    """`store_id`: whose figure is told beside the mean; the stores are all of the tenant. `noise_multiplier` needs a
    `clip_norm`."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    store_id: str = ""
    model_type: Literal["demand_forecast"] = "demand_forecast"
    rounds: int = Field(100, ge=1, le=1000)
    client_fraction: float = Field(1.0, gt=0, le=1)
    min_clients: int = Field(2, ge=1, le=10_000)
    local_epochs: int = Field(1, ge=1, le=100)
    learning_rate: float = Field(0.03, gt=0, le=1)
    clip_norm: float = Field(0.0, ge=0)
    noise_multiplier: float = Field(0.0, ge=0)
    seed: int = Field(0, ge=0, lt=2**31)
    round_timeout_s: float = Field(120.0, gt=0, le=3600)

    @model_validator(mode="after")
    def _measured(self) -> FederatedAsk:
        if self.noise_multiplier and not self.clip_norm:
            raise ValueError("noise_multiplier needs a clip_norm above 0: the noise is measured by it")
        return self

    def plan(self) -> Plan:
        return Plan(
            self.rounds, self.client_fraction, self.min_clients, self.local_epochs, self.learning_rate,
            Privacy(self.clip_norm, self.noise_multiplier), self.seed, self.round_timeout_s,
        )  # fmt: skip
