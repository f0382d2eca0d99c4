"""Frees what failed calls had in hand."""


def forget_tracebacks(error: BaseException) -> None:
    """Drop the tracebacks of an error and of those that led to it, once nobody needs them any more.

    A traceback refers to the frames of the calls that failed, and these to their variables: a request, or a message
    being sent. One of them usually refers to the error, so all of them would stay in memory until the next garbage
    collection, which is rare here (see settle_garbage_collection).
    """
    waiting: list[BaseException | None] = [error]
    seen: set[int] = set()  # By identity: an exception need not be hashable.
    while waiting:
        each = waiting.pop()
        if each is not None and id(each) not in seen:
            seen.add(id(each))
            each.__traceback__ = None
            waiting += (each.__cause__, each.__context__)
