"""What the health probes return."""

from pydantic.config import JsonDict

from archer_ws.examples.story import OLLAMA_IS_AWAY, PROVIDER, START_OLLAMA, VERSION

HEALTHY: JsonDict = {"status": "healthy", "version": VERSION}
ALIVE: JsonDict = {"status": "alive"}
READY: JsonDict = {"status": "ready", "provider": PROVIDER, "latency_ms": 3.2}
NOT_READY: JsonDict = {
    "status": "not_ready",
    "provider": PROVIDER,
    "reason": OLLAMA_IS_AWAY,
    "hint": START_OLLAMA,
}
DRAINING: JsonDict = {"status": "draining", "provider": PROVIDER, "reason": "the server is about to stop"}
