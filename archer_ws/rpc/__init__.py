"""JSON-RPC 2.0 and the archer.v1 methods over any channel of text messages. No web framework here, and no provider.

"Protocol section N", here and all over the package, is section N of schemas/PROTOCOL.md.
"""
