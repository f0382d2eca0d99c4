"""`archer-ws sessions`: stored conversations, of a running server or in the file of a stopped one.

`command` has the actions, `source` their interface to the conversations, `served` and `kept` its two implementations,
`showing` the output for people.
"""
