"""From a decoded call to its response: checks whether it is allowed now and well-formed, runs its method, and
responds."""

import asyncio
from collections.abc import Awaitable

import structlog
from pydantic import ValidationError

from archer_ws.core.exceptions import ArcherError, MethodNotFound, NotInitialized
from archer_ws.core.rare_line import RareLine
from archer_ws.core.tracebacks import forget_tracebacks
from archer_ws.rpc.codec import Call, encode_error, encode_result
from archer_ws.rpc.context import Context
from archer_ws.rpc.method_errors import defect, params_error
from archer_ws.rpc.registry import Method, Registry, Reply

log = structlog.get_logger(__name__)

#: The most failed calls that are logged within ten seconds, over all connections: a client can fail as often as it
#: likes.
FAILED_CALLS_LOGGED = 100
_failed = RareLine("call_failed", level="info", burst=FAILED_CALLS_LOGGED)


def note_failure(method: str | None, error: ArcherError, request_id: str) -> None:
    """Log the failure under the `request_id` that its error has."""
    _failed.write(method=method and method[:100], kind=error.kind, error=error.message, request_id=request_id)


class Dispatcher:
    """Serves calls with the registry's methods. One for all connections."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def dispatch(self, context: Context, call: Call, tasks: asyncio.TaskGroup) -> None:
        """Begin the call synchronously; respond now, or from a task if it has to wait.

        Call it in a logging context for this call alone: the `request_id` is bound there, for all log lines about the
        call, also those of a stream that it begins, since tasks inherit what is bound.
        """
        request_id = context.requests.next_name()
        structlog.contextvars.bind_contextvars(request_id=request_id)
        try:
            begun = self._begin(context, call)
        except ArcherError as error:
            self._fail(context, call, error, request_id)
        except Exception:
            log.exception("method_defect", method=call.method)
            self._respond_with_error(context, call, defect(), request_id)
        else:
            if isinstance(begun, Reply):
                self._respond(context, call, begun)
                return
            context.requests.begin(call.id)
            tasks.create_task(self._finish(context, call, begun, request_id), name=f"request {request_id}")

    def _begin(self, context: Context, call: Call) -> Reply | Awaitable[Reply]:
        method = self._registry.get(call.method)
        if method is None:
            raise MethodNotFound(
                f"there is no method {call.method[:100]!r}", hint="rpc.discover lists the methods of this server."
            )
        self._check_state(context, method)
        try:
            # Without model_validate, which costs a tenth more.
            params = method.params.__pydantic_validator__.validate_python(call.params)
        except ValidationError as error:
            raise params_error(error) from None
        return method.handler(context, params)

    def _check_state(self, context: Context, method: Method) -> None:
        if not context.is_authenticated and not method.is_open:
            raise NotInitialized(
                "this server needs a credential first",
                hint="Send initialize with a token before; clients have it as an option of their connection, `token`.",
            )
        if not method.is_control:
            context.requests.check_room()
        if not method.is_open:
            context.has_spoken = True

    async def _finish(self, context: Context, call: Call, begun: Awaitable[Reply], request_id: str) -> None:
        try:
            reply = await begun
        except ArcherError as error:
            context.requests.end(call.id)
            self._fail(context, call, error, request_id)
        except Exception:
            log.exception("method_defect", method=call.method)
            context.requests.end(call.id)
            self._respond_with_error(context, call, defect(), request_id)
        else:
            context.requests.end(call.id)
            self._respond(context, call, reply)

    def _respond(self, context: Context, call: Call, reply: Reply) -> None:
        if call.id is not None:
            context.writer.put(encode_result(call.id, reply.result))
        if reply.then is not None:
            reply.then()

    def _fail(self, context: Context, call: Call, error: ArcherError, request_id: str) -> None:
        note_failure(call.method, error, request_id)
        self._respond_with_error(context, call, error, request_id)
        forget_tracebacks(error)  # They have the request.

    def _respond_with_error(self, context: Context, call: Call, error: ArcherError, request_id: str) -> None:
        if call.id is not None:
            context.writer.put(encode_error(call.id, error, request_id))
