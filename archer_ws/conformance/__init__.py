"""Black-box checks of any archer.v1 server: `archer-ws conformance --url ws://…`.

It knows the protocol's messages and nothing of a server's insides, and talks raw JSON-RPC, so that it can send what no
client would. `checks/` are the questions, by theme; `registry` lists them, `runner` asks them, `report` shows the
answers, `command` is the program. A check works with its `bench` (its own connections, and the tidying up), on which
each `peer` reads every frame strictly (`wire`, `methods`), follows the streams (`told`) and writes into the run's
`ledger` what breaks a promise that always holds; `probe` finds out beforehand whether there is a server to check.
"""
