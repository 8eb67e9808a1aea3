"""The quota rules of a client and of its tenants, as the provider states them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, field_validator, model_validator

from workers.errors import ConfigError
from workers.settings.limits import cell
from workers.settings.values import NAME, Model

if TYPE_CHECKING:
    from collections.abc import Iterable

Shape = Literal["bucket", "fixed_window", "sliding_window", "concurrent"]
Calibration = Literal["guide", "tight"]


def _usual_calibration(limit: dict[str, Any]) -> Calibration | None:
    shape = limit.get("shape")
    return None if shape == "concurrent" else "guide" if shape == "bucket" else "tight"


class LimitSettings(Model):
    """One quota rule of a client or of a tenant, as the provider states it."""

    name: str = Field(pattern=NAME)
    count: int = Field(ge=1)  #: calls per window, or at once where the shape is concurrent
    window_s: float = Field(1.0, gt=0)
    shape: Shape = "bucket"
    match: str = "* *"  #: method and path pattern, `*` stands for anything
    calibration: Calibration | None = Field(default_factory=_usual_calibration)
    """How near to the limit; unless set, guide for a bucket and tight for a window."""
    rate: float | None = Field(None, gt=0)  #: calls per second, instead of the calibration's
    burst: int | None = Field(None, ge=1)  #: tokens, instead of the calibration's
    reserve: int | None = Field(None, ge=0)  #: tokens of the burst that only urgent may take

    @field_validator("name")
    @classmethod
    def _is_free(cls, value: str) -> str:
        if value == "client":
            raise ValueError(f"{value!r} is a name of Headgate's own; choose another one")
        return value

    @field_validator("match")
    @classmethod
    def _method_and_path(cls, value: str) -> str:
        if not re.fullmatch(r"\S+ +[/*]\S*", value):
            raise ValueError('must be a method and a path, such as "POST /api/v2/*" or "* *"')
        return value

    @model_validator(mode="after")
    def _fits_its_shape(self) -> LimitSettings:
        if self.shape == "concurrent":
            of_a_rate = ("window_s", "calibration", "rate", "burst", "reserve")
            if given := [name for name in of_a_rate if name in self.model_fields_set]:
                raise ValueError(
                    f'shape "concurrent" counts calls at once, whatever their rate; '
                    f"leave out {' and '.join(given)}"
                )
        elif self.shape != "bucket" and self.calibration == "guide":
            raise ValueError(
                'calibration "guide" is a rule for buckets and does not keep a window; '
                'use "tight" or leave it out'
            )
        return self


class TenantSettings(Model):
    """A tenant that sends through this client, or with credentials of its own."""

    weight: int = Field(1, ge=1, le=1000)  #: its part of the client's rate while all have work
    quota: int | None = Field(None, ge=1)  #: its part of each of the client's limits without count
    client: str | None = None  #: its own credentials: the name of another client
    limits: tuple[LimitSettings, ...] = ()  #: caps for this tenant alone

    @model_validator(mode="after")
    def _whole(self) -> TenantSettings:
        if self.client is not None:
            others = ("weight", "quota", "limits")
            if given := [name for name in others if name in self.model_fields_set]:
                raise ValueError(
                    f"a tenant with a client of its own has no part of this one; "
                    f"leave out {' and '.join(given)}"
                )
        require_kept(self.limits)
        return self


def require_kept(limits: Iterable[LimitSettings]) -> None:
    """Refuse a name that is there twice, and a limit that no cell can keep, with a `ValueError`."""
    names = set()
    for limit in limits:
        if limit.name in names:
            raise ValueError("two limits have the same name")
        names.add(limit.name)
        try:
            cell(limit)
        except ConfigError as error:
            raise ValueError(str(error)) from None
        except ArithmeticError:
            raise ValueError(
                f"limit {limit.name}: its numbers are too large or too small"
            ) from None


def sum_of_quotas(limit: object, tenants: dict[str, TenantSettings]) -> int:
    """The count of a limit that states none; `ValueError` when a tenant has no quota."""
    # Who has credentials of its own sends nothing through this client.
    quotas = {name: it.quota for name, it in tenants.items() if it.client is None}
    missing = [name for name, quota in quotas.items() if quota is None]
    if missing or not quotas:
        who = f"tenant {missing[0]!r} has none" if missing else "there are no tenants"
        raise ValueError(
            f"limit {limit}: without count it is the sum of its tenants' quotas, and {who}; "
            f"set count, or a quota for each tenant"
        )
    return sum(quota for quota in quotas.values() if quota is not None)
