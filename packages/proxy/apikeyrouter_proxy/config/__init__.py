"""The configuration file `apikeyrouter.yaml`: read, checked, compared, and applied to a running proxy.

tree.py        YAML to plain values, with the place of each
references.py  ${ENV}, ${file:...}, ${command:...}
types.py       what may stand in the file: the source of the JSON schema and of docs/reference/configuration.md
loading.py     files to one `Configuration`, or every fault at once
meaning.py     what its objects mean to the router, checked by the router's own readers
layers.py      file below environment below arguments, and where each effective value comes from
shown.py       for people: effective values, masked; differences
owned.py       what the store holds for the file: keys and budgets
reloading.py   a changed file, applied whole or not at all
"""
