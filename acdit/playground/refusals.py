"""Refusals: errors of requests with the status of their HTTP answer."""

from ..utils.errors import UserError


class Refusal(UserError):
    """Request that is not carried out.

    Args:
        message: what is wrong and what is accepted.
        status: status of the answer, such as 413.
    """

    def __init__(self, message: str, status: int = 400):
        super().__init__(message)
        self.status = status
