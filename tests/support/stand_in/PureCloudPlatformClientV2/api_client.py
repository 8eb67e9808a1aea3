"""The client of all API classes: it puts a call together and hands it to the HTTP client."""

import json
from types import SimpleNamespace

from .abstract_http_client import AbstractHttpClient
from .rest import ApiException


class ApiClient:
    def __init__(self, host=None):
        self.host = host or "https://api.mypurecloud.com"
        self.default_headers = {"User-Agent": "PureCloud SDK/python"}
        self.http_client = None
        self.access_token = self.client_id = self.client_secret = self.refresh_token = ""
        self.gateway_configuration = None

    def set_http_client(self, http_client):
        if not isinstance(http_client, AbstractHttpClient):
            raise ValueError("http_client must be an instance of AbstractHttpClient")  # noqa: TRY004 -- as the SDK
        self.http_client = http_client

    def get_http_client(self):
        return self.http_client

    def get_client_credentials_token(self, client_id, client_secret):
        self._token({"Authorization": f"Basic {client_id}:{client_secret}"})
        return self

    def call_api(
        self,
        resource_path,
        method,
        path_params=None,
        query_params=None,
        header_params=None,
        body=None,
        post_params=None,
        files=None,
        response_type=None,
        auth_settings=None,
    ):
        headers = {**(header_params or {}), **self.default_headers}
        if auth_settings:
            headers["Authorization"] = f"Bearer {self.access_token}"
        for name, value in (path_params or {}).items():
            resource_path = resource_path.replace(f"{{{name}}}", str(value))
        fields = list((post_params or {}).items())
        for name, file in (files or {}).items():
            with open(file, "rb") as opened:  # noqa: PTH123 -- as the SDK
                fields.append((name, (file, opened.read(), "text/plain")))
        options = _options(self.host + resource_path, method, headers, query_params, fields, body)
        try:
            answer = self.http_client.request(options)
        except ApiException as error:
            if error.status != 401 or not self.refresh_token:
                raise
            self._token({})
            answer = self.http_client.request(options)
        return json.loads(answer.data) if response_type else None

    def _token(self, headers):
        url = self.host.replace("//api.", "//login.") + "/oauth/token"
        headers["Content-Type"] = "application/x-www-form-urlencoded"
        fields = {"grant_type": "client_credentials"}
        self.http_client.request(_options(url, "POST", headers, None, fields, None))


def _options(url, method, headers, query_params, post_params, body):
    return SimpleNamespace(
        url=url,
        method=method,
        headers=headers or {},
        query_params=query_params or {},
        post_params=post_params or {},
        body=body,
        timeout=16000,
    )
