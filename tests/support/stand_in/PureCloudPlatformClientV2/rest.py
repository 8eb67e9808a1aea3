"""Answers, and the error of those that are no success."""


class RESTResponse:
    def __init__(self, resp):
        self.urllib3_response = resp
        self.status, self.reason, self.data = resp.status, resp.reason, resp.data

    def getheaders(self):
        return self.urllib3_response.headers

    def getheader(self, name, default=None):
        return self.urllib3_response.headers.get(name, default)


class ApiException(Exception):
    def __init__(self, status=None, reason=None, http_resp=None):
        self.status = http_resp.status if http_resp else status
        self.reason = http_resp.reason if http_resp else reason
        self.body = http_resp.data if http_resp else None
        self.headers = http_resp.getheaders() if http_resp else None
