"""Black-box checks of any archer.v1 server: `archer-ws conformance --url ws://…`.

It knows the protocol's messages and nothing of a server's internals, and sends raw JSON-RPC, so that it can send what
no client would. `checks/` has the checks, by subject; `registry` lists them, `runner` runs them, `report` prints the
results, `command` is the program. A check uses its `bench` (its own connections, and cleaning up). Each `peer` on it
reads every frame strictly (`wire`, `methods`), follows the streams (`told`), and records in the run's `ledger` whatever
breaks a rule that always holds. `probe` finds out first whether there is a server to check.
"""
