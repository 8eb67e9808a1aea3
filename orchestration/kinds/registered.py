"""Gives our Celery application the tasks of every kind; its setting `imports` names this module."""

from __future__ import annotations

from orchestration.kinds.registry import register
from workers.app import app

register(app)
