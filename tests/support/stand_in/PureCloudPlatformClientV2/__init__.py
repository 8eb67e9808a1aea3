"""A stand-in for the parts of the Genesys SDK (269.0.0) that its HTTP clients meet.

The SDK itself has 6,700 modules and takes 170 MB: it is no part of the test environment. What the
tests say of this one they say of the SDK itself, wherever that is installed.
"""

from .api_client import ApiClient


class OutboundApi:
    """One API of many, with one of its many calls."""

    def __init__(self, api_client):
        self.api_client = api_client

    def get_outbound_campaigns(self, **query_params):
        path = "/api/v2/outbound/campaigns"
        auth = ["PureCloud OAuth"]
        return self.api_client.call_api(
            path, "GET", query_params=query_params, auth_settings=auth, response_type="object"
        )


__all__ = ["ApiClient", "OutboundApi"]
