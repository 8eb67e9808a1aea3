"""The class that a user's HTTP client must be one of."""

from abc import ABC, abstractmethod


class AbstractHttpClient(ABC):
    def __init__(self):
        self.timeout = 16000
        self.pre_hook = None
        self.post_hook = None

    def set_pre_request_hook(self, hook):
        self.pre_hook = hook

    def set_post_request_hook(self, hook):
        self.post_hook = hook

    @abstractmethod
    def request(self, http_request_options):
        """Return a RESTResponse, or raise ApiException."""
