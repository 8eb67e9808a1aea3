"""Calls of other code on the same quota: limiter, requests session, SDK client; never a job."""
