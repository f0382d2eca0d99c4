"""`archer-ws sessions`: stored conversations, of a running server or in a file of a stopped one.

`command` is what each subcommand does, `source` what it needs of either place, `served` and `kept` the two places,
`showing` how people see it.
"""
