"""The dashboard: pages that a browser loads once and that then talk to the management API like any other client.

`assets` hands out the files, `sessions` turns a signed-in browser's cookie into the credential that it stands for, and
`playground` lets that browser use the token path. There is no build step: `static/` holds ES modules as they are, and
`static/vendor/` two libraries, unchanged, whose origin and hashes `vendor/vendor.json` records.
"""
