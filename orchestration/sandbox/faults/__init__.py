"""Misbehaviour on command: which call is hit by which fault, and what its reply becomes.

`rules` holds the faults and the storm that are in force and picks those that hit a call; `damage`
turns the reply of a call that was hit into the ordered one. Nothing here touches a connection: the
package `servers` breaks those.
"""

from orchestration.sandbox.faults.damage import KINDS_WITH_EFFECT, damage_reply, is_remembered
from orchestration.sandbox.faults.rules import FaultBook, StormInForce

__all__ = ["KINDS_WITH_EFFECT", "FaultBook", "StormInForce", "damage_reply", "is_remembered"]
