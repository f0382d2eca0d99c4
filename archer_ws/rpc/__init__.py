"""JSON-RPC 2.0 and the archer.v1 methods over any channel of text messages. No web framework and no provider here.

"Protocol section N" in this package means section N of schemas/PROTOCOL.md.
"""
