"""The credentials that calls carry, and one refresh for the whole fleet; never a call of a job.

- `credentials`: one interface, whatever the form. `tokens`: the access token of a client, shared by
  the fleet through `token_store`, asked for at `token_endpoint` in one of the `token_forms`.
- `discovery`: where a NICE CXone tenant's API and token endpoint are.
"""

from workers.auth.credentials import Credentials, NoCredentials, StaticSecret, Token
from workers.auth.discovery import Endpoints, discover
from workers.auth.tokens import Tokens

__all__ = [
    "Credentials",
    "Endpoints",
    "NoCredentials",
    "StaticSecret",
    "Token",
    "Tokens",
    "discover",
]
