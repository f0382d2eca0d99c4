"""The HTTP and WebSocket edge, and the only place that uses FastAPI. Routes call the session manager and nothing below
it.

The middleware, outermost first: `RequestLog`, `HostAndOriginGuard`, Starlette's `CORSMiddleware`, `CredentialGuard`,
`BodyLimit`, and the error boundary, which `install_error_handlers` adds and which must therefore be added first.
"""
