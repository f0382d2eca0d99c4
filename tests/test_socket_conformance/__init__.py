"""RFC 6455, as Autobahn's test suite checks it, against the WebSocket stack that `archer-ws serve` uses."""
