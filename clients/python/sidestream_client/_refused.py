"""Why a stream is not to be had, where another attempt would change nothing."""


class Refused(Exception):
    """An answer such as 401 or 406, or a WebSocket's close code 1008."""

    def __init__(self, status: int, problem: dict | None = None):
        super().__init__((problem or {}).get("detail") or f"refused with {status}")
        #: The HTTP status, or the close code.
        self.status = status
        #: The problem document (RFC 9457), where the answer has one.
        self.problem = problem
