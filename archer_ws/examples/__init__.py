"""The examples of the schemas, the OpenAPI and OpenRPC documents and the tests: one story, told once.

Ada asks in the conversation `sky`. Stream `sky-1` explains why the sky is blue, `sky-2` is running, and `sky-3` failed
because Ollama was away. In stream `oslo-1` the model calls two tools, of which one is denied, and a message is steered
in. `prime-1` runs on another provider. story.py has the ids, times and texts; the other modules put them into the
messages' forms, a subject each. Plain values: nothing here knows a model, a route or a server.

An example that shows what else might have happened (another result of the same call, another end) has the same ids.
"""
