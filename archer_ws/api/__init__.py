"""The HTTP and WebSocket edge: the one place that knows FastAPI. Routes call the session manager and nothing deeper.

The middleware, outermost first: `RequestLog`, `HostAndOriginGuard`, Starlette's `CORSMiddleware`, `CredentialGuard`,
`BodyLimit`, and the error boundary, which `install_error_handlers` adds and which must be added first for that.
"""
